"""A throw-away certificate authority, with a server's and a client's certificate, for a broker of tests and the lab."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from opsmend.lab.backends import LabError

KEY_PASSWORD = "for-tests-alone"
"""Of `client-locked.key`."""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def make_certificates(at: Path) -> None:
    """Writes PEM files to `at`: `ca.pem`, `server.keystore.pem` (for 127.0.0.1 and localhost), `client.pem` with
    `client.key` and the same key under a password, and `other-ca.pem` that signed nothing. Some 0.2 s.
    Raises LabError where there is no openssl."""
    if shutil.which("openssl") is None:
        raise LabError("no openssl on PATH: certificates of a secured broker are made with it")
    at.mkdir(parents=True)
    for name in ("ca", "other-ca"):
        _openssl(at, "req", "-x509", *_KEY, "-noenc", "-days", "7", "-subj", f"/CN=opsmend {name}",
                 "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name, extension in (("server", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                            ("client", "extendedKeyUsage=clientAuth")):
        (at / f"{name}.ext").write_text(extension + "\n")
        _openssl(at, "req", *_KEY, "-noenc", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        _openssl(at, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", "7", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    _openssl(at, "pkcs8", "-topk8", "-in", "client.key", "-out", "client-locked.key", "-passout", f"pass:{KEY_PASSWORD}")
    (at / "server.keystore.pem").write_text((at / "server.key").read_text() + (at / "server.pem").read_text())


def _openssl(at: Path, *args: str) -> None:
    done = subprocess.run(["openssl", *args], cwd=at, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"openssl {args[0]}: {done.stderr.strip()[-300:]}")
