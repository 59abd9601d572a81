// node bundle.mjs OUT: bundles board.jsx. What Grafana's library loads for editors and never needs here is left out.
import { build } from 'esbuild';

const unneeded = {
  name: 'unneeded',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(monaco-editor|react-monaco-editor|@monaco-editor|ol|moment-timezone\/data)(\/|$)/ }, ({ path }) => ({
      path, namespace: 'unneeded',
    }));
    onLoad({ filter: /.*/, namespace: 'unneeded' }, () => ({ contents: 'module.exports = {}', loader: 'js' }));
  },
};

await build({
  entryPoints: ['board.jsx'], bundle: true, outfile: process.argv[2], jsx: 'automatic', minify: true, platform: 'browser',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window', 'process.env': '{}' },
  loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.css': 'css' },
  plugins: [unneeded], logLevel: 'error',
});
