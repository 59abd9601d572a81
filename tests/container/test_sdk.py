"""The AWS SDK in the image, of which only a few services were kept: everything that the controller asks of it works."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from tests.container.podman import ROOT, Engine
from tests.container.test_image import python


def kept() -> frozenset[str]:
    spec = importlib.util.spec_from_file_location("make_rootfs", ROOT / "deploy/image/make_rootfs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(module.BOTOCORE_SERVICES)


def asked_for(folder: Path) -> set[str]:
    """The services for which the code makes clients or reads models, found in the calls that do so."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in ("client", "create_client", "get_service_model", "load_service_model"):
                    found.add(str(node.args[0].value))
    return found


def test_every_service_that_the_code_asks_for_is_kept() -> None:
    """A new client without its service in the image fails here, not in production."""
    needed = asked_for(ROOT / "controller")
    assert {"batch", "sqs", "sts"} <= needed
    assert needed <= kept()


@pytest.mark.parametrize("service", sorted(kept()))
def test_a_client_of_each_kept_service_reaches_its_endpoint(engine: Engine, image: str, service: str) -> None:
    """Model, endpoint rules and paginators are there, in every partition."""
    code = f"""
import botocore.session
session = botocore.session.get_session()
for region in ("eu-central-1", "cn-north-1", "us-gov-west-1"):
    client = session.create_client({service!r}, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
    assert region in client.meta.endpoint_url, client.meta.endpoint_url
    assert client.meta.service_model.operation_names
print(client.meta.endpoint_url)
"""
    assert "us-gov-west-1" in python(engine, image, code)


def test_a_service_that_was_not_kept_is_really_absent(engine: Engine, image: str) -> None:
    """The test above would not see it if nothing were left out."""
    code = "import botocore.session as s; print(sorted(s.get_session().get_available_services()))"
    assert set(ast.literal_eval(python(engine, image, code))) == kept()


PROVIDERS = {
    "web identity (IRSA)": (
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/tmp/token", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/controller"},
        "",
        "sts",
    ),
    "assumed role": (
        {"AWS_PROFILE": "assumed"},
        "[profile assumed]\nrole_arn = arn:aws:iam::123456789012:role/controller\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = x\naws_secret_access_key = x\n",
        "sts",
    ),
    "container (EKS Pod Identity)": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:PORT/pod", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"},
        "",
        "GET /pod",
    ),
    "SSO": (
        {"AWS_PROFILE": "person"},
        "[profile person]\nsso_start_url = https://example.awsapps.com/start\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = developer\n",
        "GET /federation/credentials",
    ),
    "SSO session": (
        {"AWS_PROFILE": "person"},
        "[profile person]\nsso_session = corporate\nsso_account_id = 123456789012\nsso_role_name = developer\n"
        "[sso-session corporate]\nsso_region = us-east-1\nsso_start_url = https://example.awsapps.com/start\n",
        "GET /federation/credentials",
    ),
}  # fmt: skip

GET_CREDENTIALS = '''
import asyncio, datetime, hashlib, http.server, json, os, pathlib, threading
EXPIRES = "2999-01-01T00:00:00Z"
XML = """<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>
<AccessKeyId>AKIDFOUND</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></{0}Result></{0}Response>"""
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        seen.append(f"{self.command} {self.path.partition('?')[0]} {body}")
        plain = {"AccessKeyId": "AKIDFOUND", "SecretAccessKey": "s", "Token": "t", "Expiration": EXPIRES}
        if "Action=" in body:
            text = XML.format(body.partition("Action=")[2].partition("&")[0])
        elif "federation" in self.path:
            text = json.dumps({"roleCredentials": {"accessKeyId": "AKIDFOUND", "secretAccessKey": "s",
                                                   "sessionToken": "t", "expiration": 32503680000000}})
        else:
            text = json.dumps(plain)
        self.send_response(200); self.end_headers(); self.wfile.write(text.encode())
    do_GET = do_POST = answer
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
for name, value in VARIABLES.items():
    os.environ[name] = value.replace("PORT", str(server.server_port))
os.environ.update(HOME="/tmp", AWS_CONFIG_FILE="/tmp/config", AWS_ENDPOINT_URL=url, AWS_EC2_METADATA_DISABLED="true",
                  AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
pathlib.Path("/tmp/config").write_text(CONFIG)
pathlib.Path("/tmp/token").write_text("token")
cache = pathlib.Path("/tmp/.aws/sso/cache"); cache.mkdir(parents=True)
for key in ("https://example.awsapps.com/start", "corporate"):
    (cache / (hashlib.sha1(key.encode()).hexdigest() + ".json")).write_text(json.dumps(
        {"startUrl": key, "region": "us-east-1", "accessToken": "a", "expiresAt": EXPIRES}))
async def main():
    from aiobotocore.session import AioSession
    credentials = await AioSession().get_credentials()
    frozen = await credentials.get_frozen_credentials()
    print(json.dumps([frozen.access_key, seen]))
asyncio.run(main())
'''


@pytest.mark.parametrize("provider", PROVIDERS)
def test_credentials_are_got_from_every_kind_of_provider(engine: Engine, image: str, provider: str) -> None:
    """The SDK's own calls for credentials find the service models that they need."""
    variables, config, call = PROVIDERS[provider]
    code = f"VARIABLES = {variables!r}\nCONFIG = {config!r}\n{GET_CREDENTIALS}"
    key, seen = json.loads(python(engine, image, code))
    assert key == "AKIDFOUND"
    wanted = "Action=AssumeRole" if call == "sts" else call
    assert any(wanted in each for each in seen), seen
