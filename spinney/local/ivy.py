"""Fetch jars by Apache Ivy, which is part of pyspark, from Ivy's default repository."""

from __future__ import annotations

import contextlib
import re
import subprocess
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from spinney.core.errors import SetupError
from spinney.local.jars import Fetch, Jar, full_disk, not_loaded, not_there

# Spark and the broker use different versions of one module: manager="all" keeps both.
# usepoms="false": the lock names every jar, so no description is read; checksums="none": the lock's SHA-256 is checked.
SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir={cache} artifactPattern="[artifact]-[revision].[ext]"/>
  <resolvers><ibiblio name="central" m2compatible="true" usepoms="false" checksums="none"/></resolvers>
</ivysettings>
"""
MODULE = """<ivy-module version="2.0">
  <info organisation="spinney" module="jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
{dependencies}
    <conflict manager="all"/>
  </dependencies>
</ivy-module>
"""
DEPENDENCY = (
    '    <dependency org={group} name={artifact} rev={version} transitive="false" conf="default->default">'
    '<artifact name={artifact} type="jar" ext="jar"/></dependency>'
)
LOADED = re.compile(r"\[SUCCESSFUL \] (?P<group>\S+)#(?P<artifact>\S+);(?P<version>[^!\s]+)!")
# Ivy calls a jar "not found" for these reasons too: they have to be looked for first.
NETWORK_ERROR = re.compile(
    r"Server access error at url \S+ \((?P<access>[^)\n]*)|(?P<host>Host \S+ not found)"
    r"|(?P<server>SERVER ERROR: .*?) url=|(?P<proxy>Your proxy requires authentication)"
)
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ivy(java: Path, ivy_jar: Path, environment: Mapping[str, str]) -> Fetch:
    """Return a function that fetches jars by Ivy. java: the executable. ivy_jar: Ivy itself."""

    def fetch(jars: Sequence[Jar], folder: Path, adopt: Callable[[Jar, Path], None]) -> None:
        wanted = {jar.coordinate: jar for jar in jars}

        def take(coordinate: str) -> None:
            jar = wanted.get(coordinate)
            if jar and (folder / jar.name).is_file():
                adopt(wanted.pop(coordinate), folder / jar.name)

        for coordinate in list(wanted):  # loaded by a run that was stopped before it could hand them over
            take(coordinate)
        if not wanted:
            return
        command = [str(java), *_network_options(folder, environment)]
        command += ["-jar", str(ivy_jar), *_write(wanted.values(), folder)]
        code, text = _run(command, take)
        for coordinate in list(wanted):
            take(coordinate)
        if wanted:
            raise _diagnosis(code, text, list(wanted.values()), folder)

    return fetch


def _write(jars: Iterable[Jar], folder: Path) -> list[str]:
    """Write Ivy's two files; return the arguments that name them."""
    dependencies = "\n".join(
        DEPENDENCY.format(group=quoteattr(jar.group), artifact=quoteattr(jar.artifact), version=quoteattr(jar.version))
        for jar in jars
    )
    settings, module = folder / "ivysettings.xml", folder / "ivy.xml"
    settings.write_text(SETTINGS.format(cache=quoteattr(str(folder))), encoding="utf-8")
    module.write_text(MODULE.format(dependencies=dependencies), encoding="utf-8")
    return ["-settings", str(settings), "-ivy", str(module)]


def _run(command: list[str], take: Callable[[str], None]) -> tuple[int, str]:
    """Run Ivy, and call `take` with each jar as soon as it is downloaded, so that an interruption loses none.

    Returns the exit code and the output.
    """
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as ivy_process:
        assert ivy_process.stdout is not None
        try:
            for line in ivy_process.stdout:
                lines.append(line)
                loaded_jar = LOADED.search(line)
                if loaded_jar:
                    take(f"{loaded_jar['group']}:{loaded_jar['artifact']}:{loaded_jar['version']}")
        except BaseException:
            ivy_process.kill()
            raise
    return ivy_process.returncode, "".join(lines)


def _diagnosis(code: int, text: str, missing: Sequence[Jar], folder: Path) -> SetupError:
    if "No space left on device" in text:
        return full_disk(folder)
    network_error = NETWORK_ERROR.search(text)
    if network_error and network_error.lastgroup:
        return not_loaded(missing, network_error[network_error.lastgroup].strip(" :"))
    absent = [jar for jar in missing if f"{jar.group}#{jar.artifact};{jar.version}: not found" in text]
    if absent:
        return not_there(absent, "the default Maven repository")
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
    return not_loaded(missing, f"Ivy ended with {code} ({last})")


def _network_options(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Return Java options for the proxy and the certificates in the environment, which Java does not read itself."""
    options = []
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy") or environment.get(f"{scheme.upper()}_PROXY")
        address = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy or ''}")
        if address.hostname:
            options += [f"-D{scheme}.proxyHost={address.hostname}", f"-D{scheme}.proxyPort={address.port or 80}"]
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY")
    if exempt:
        hosts = [host.strip() for host in exempt.split(",") if host.strip()]
        patterns = [f"*{host}" if host.startswith(".") else host for host in hosts]
        options.append("-Dhttp.nonProxyHosts=" + "|".join(patterns))
    bundle = next((Path(environment[name]) for name in CERTIFICATES if environment.get(name)), None)
    if bundle and bundle.is_file():
        options += _trust(bundle, folder / "trusted.p12")
    return options


def _trust(bundle: Path, store: Path) -> list[str]:
    """Write a PEM bundle as a key store that Java can read. The format requires a password; it protects nothing."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    password = b"spinney"
    certificates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old authorities violate the standard
        for number, pem in enumerate(PEM.findall(bundle.read_bytes())):
            with contextlib.suppress(ValueError):
                name = f"ca{number}".encode()
                certificates.append(pkcs12.PKCS12Certificate(x509.load_pem_x509_certificate(pem), name))
        store.write_bytes(pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(password)))
    return [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={password.decode()}"]
