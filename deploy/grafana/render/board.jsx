// Draws one dashboard's panels from recorded answers of Prometheus (window.RECORDED, window.BOARD), as Grafana would:
// frames, big numbers, time series, legends, units and colours are Grafana's own components (@grafana/ui). State
// timelines and tables, whose components are not published, are drawn here.
import React from 'react';
import { createRoot } from 'react-dom/client';
import 'uplot/dist/uPlot.min.css';
import { FieldType, createTheme, dateTime, getDisplayProcessor } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries } from '@grafana/ui';

const theme = createTheme({ colors: { mode: 'dark' } });
const { began_at: beganAt, ended_at: endedAt, boards } = window.RECORDED;
const board = boards[window.BOARD];
const WIDTH = 1480, GAP = 8, ROW = 30;
const timeRange = { from: dateTime(beganAt * 1000), to: dateTime(endedAt * 1000), raw: { from: 'now-5m', to: 'now' } };
const CUSTOM = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', spanNulls: false,
  insertNulls: false, showPoints: 'never', pointSize: 5, stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto',
  axisLabel: '', axisColorMode: 'text', axisBorderShow: false, scaleDistribution: { type: 'linear' },
  axisCenteredZero: false, hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: 'off' },
};

const named = (format, labels) => format.replace(/{{\s*(\w+)\s*}}/g, (_, name) => labels[name] ?? '');

function fieldOf(panel, name, values, index) {
  const { defaults, overrides = [] } = panel.fieldConfig;
  const config = { ...defaults, displayName: name, custom: { ...CUSTOM, ...defaults.custom } };
  config.thresholds = { ...defaults.thresholds, steps: defaults.thresholds.steps.map((s) => ({ ...s, value: s.value ?? -Infinity })) };
  for (const { matcher, properties } of overrides) {
    if (matcher.id === 'byName' && matcher.options === name) {
      for (const { id, value } of properties) config[id] = value;
    }
  }
  const field = { name, type: FieldType.number, config, values, labels: {}, state: { seriesIndex: index, displayName: name } };
  field.display = getDisplayProcessor({ field, theme });
  return field;
}

function framesOf(panel) {
  const frames = [];
  for (const { legend, series } of panel.answers) {
    for (const { metric, values } of series) {
      const numbers = values.map(([, v]) => (Number.isFinite(Number(v)) ? Number(v) : null));
      if (numbers.every((v) => v === null)) continue;
      const time = { name: 'Time', type: FieldType.time, config: {}, values: values.map(([t]) => t * 1000) };
      time.display = getDisplayProcessor({ field: time, theme });
      const name = named(legend, metric) || 'value';
      frames.push({ refId: 'A', length: values.length, fields: [time, fieldOf(panel, name, numbers, frames.length)] });
    }
  }
  return frames;
}

const Nothing = ({ text = 'No data' }) => (
  <div style={{ height: '100%', display: 'grid', placeItems: 'center', color: theme.colors.text.secondary }}>{text}</div>
);

function Stat({ panel, width, height }) {
  const series = panel.answers[0].series[0];
  const value = series ? Number(series.value[1]) : NaN;
  if (Number.isNaN(value)) return <Nothing text={panel.fieldConfig.defaults.noValue} />;
  const shown = fieldOf(panel, '', [value], 0).display(value);
  const { colorMode, graphMode, textMode } = panel.options;
  return <BigValue {...{ width, height, theme, colorMode, graphMode, textMode }} justifyMode="center" value={{ ...shown, title: undefined }} />;
}

function Lines({ panel, width, height }) {
  const frames = framesOf(panel);
  if (frames.length === 0) return <Nothing />;
  return (
    <TimeSeries {...{ width, height, frames, timeRange }} timeZone="utc" legend={{ ...panel.options.legend, calcs: [] }}
      options={panel.options} structureRev={1} replaceVariables={(x) => x} />
  );
}

// First and last index of each run of the same value; null is a gap.
function runs(values) {
  const found = [];
  values.forEach((value, index) => {
    const run = found[found.length - 1];
    if (run !== undefined && run[2] === value && run[1] === index - 1) run[1] = index;
    else if (value !== null) found.push([index, index, value]);
  });
  return found;
}

function States({ panel, width, height }) {
  const frames = framesOf(panel);
  if (frames.length === 0) return <Nothing />;
  const left = 150, bottom = 20, high = Math.min(34, (height - bottom) / frames.length);
  const x = (t) => left + ((t / 1000 - beganAt) / (endedAt - beganAt)) * (width - left - 12);
  const step = frames[0].fields[0].values[1] - frames[0].fields[0].values[0];
  const ticks = [0, 1, 2, 3, 4].map((n) => (beganAt + ((n + 0.5) / 5) * (endedAt - beganAt)) * 1000);
  return (
    <svg width={width} height={height} style={{ fontSize: 12 }}>
      {frames.map(({ fields: [time, value] }, row) => (
        <g key={row}>
          <text x={left - 8} y={row * high + high / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{value.name}</text>
          {runs(value.values).map(([first, last, v]) => (
            <rect key={first} x={x(time.values[first])} y={row * high + 3} height={high - 6} fillOpacity={0.8}
              width={x(time.values[last] + step) - x(time.values[first])} fill={value.display(v).color} />
          ))}
        </g>
      ))}
      {ticks.map((t) => (
        <text key={t} x={x(t)} y={height - 4} textAnchor="middle" fill={theme.colors.text.secondary}>
          {new Date(t).toISOString().slice(11, 19)}
        </text>
      ))}
    </svg>
  );
}

function Rows({ panel }) {
  const headings = panel.transformations.find((t) => t.id === 'organize').options.renameByName;
  const all = panel.answers[0].series;
  if (all.length === 0) return <Nothing text={panel.fieldConfig.defaults.noValue} />;
  const cell = (series, name) => (name === 'Value' ? series.value[1] : series.metric[name] ?? '');
  // As Grafana's filter by name: a column that no row has is not there.
  const columns = Object.entries(headings).filter(([name]) => all.some((series) => cell(series, name) !== ''));
  const style = { textAlign: 'left', padding: '5px 8px', borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: 'nowrap' };
  const linked = new Set((panel.fieldConfig.overrides ?? []).map((o) => o.matcher.options));
  return (
    <table style={{ width: '100%', fontSize: 13 }}>
      <thead><tr>{columns.map(([name, text]) => <th key={name} style={{ ...style, color: theme.colors.text.link }}>{text}</th>)}</tr></thead>
      <tbody>
        {all.map((series, n) => (
          <tr key={n}>{columns.map(([name, text]) => (
            <td key={name} style={{ ...style, textDecoration: linked.has(text) ? 'underline' : 'none' }}>{cell(series, name)}</td>
          ))}</tr>
        ))}
      </tbody>
    </table>
  );
}

const KINDS = { stat: Stat, timeseries: Lines, 'state-timeline': States, table: Rows };

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const unit = WIDTH / 24;
  const place = { position: 'absolute', left: x * unit + GAP / 2, top: y * (ROW + GAP), width: w * unit - GAP, height: h * (ROW + GAP) - GAP };
  if (panel.type === 'row') return <div style={{ ...place, fontSize: 16, fontWeight: 500, paddingTop: 4 }}>⌄ {panel.title}</div>;
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={place.width} height={place.height}>
        {(width, height) => <div style={{ width, height, overflow: 'hidden' }}><Kind panel={panel} width={width} height={height} /></div>}
      </PanelChrome>
    </div>
  );
}

const height = Math.max(...board.panels.map(({ gridPos: { y, h } }) => (y + h) * (ROW + GAP)));
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ position: 'relative', margin: 10, width: WIDTH, height: height + 34, fontFamily: 'Inter, sans-serif' }}>
      <div style={{ fontSize: 18, fontWeight: 500, height: 34 }}>{board.title}</div>
      <div style={{ position: 'absolute', top: 34 }}>{board.panels.map((p) => <Panel key={p.id} panel={p} />)}</div>
    </div>
  </ThemeContext.Provider>,
);
