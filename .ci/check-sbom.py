"""Checks that a bill of materials is valid CycloneDX and agrees with Cargo.lock:
check-sbom.py FILE, in the root of the workspace."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main():
    text = Path(sys.argv[1]).read_text()
    # The schema comes with the library.
    if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        sys.exit(f"not valid: {error}")
    components = json.loads(text)["components"]
    listed = {(part["name"], part["version"]): checksum(part) for part in components}
    locked = {(package["name"], package["version"]): package.get("checksum")
              for package in tomllib.loads(Path("Cargo.lock").read_text())["package"]}
    built = dependencies()
    complain("missing", built - listed.keys())
    complain("not in Cargo.lock", listed.keys() - locked.keys())
    complain("with another checksum", {part for part in listed if listed[part] != locked[part]})
    # This project's own packages come from no registry: they have neither checksum nor licence.
    licensed = {(part["name"], part["version"]) for part in components if part.get("licenses")}
    complain("without a licence", {part for part in listed if locked[part] and part not in licensed})
    # It asks cargo for the workspace, where other members enable more features.
    more = len(listed.keys() - built)
    print(f"{len(components)} components, each as Cargo.lock has it; {more} of them only other members build")


def checksum(component):
    return next((each["content"] for each in component.get("hashes", []) if each["alg"] == "SHA-256"), None)


def dependencies():
    """The packages that cargo compiles for the server, on any system."""
    command = ["cargo", "tree", "--locked", "--package", "ringback", "--edges", "normal,build",
               "--target", "all", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    parts = {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line}
    return {part for part in parts if part[0] != "ringback"}


def complain(what, parts):
    if parts:
        sys.exit(f"{what}: " + ", ".join(f"{name} {version}" for name, version in sorted(parts)))


main()
