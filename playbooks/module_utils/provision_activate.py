"""The script that a user sources to work in an environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from ansible.module_utils.provision_failure import Failure

# What venv/bin/activate does, with our variables around it. It has to work sourced by dash, bash and zsh, under
# `set -eu`, twice in a row, and after its folder is gone. `deactivate` lets the venv's own script define its
# deactivate once more and calls that, so nothing here depends on how the venv restores PATH and the prompt.
TEMPLATE = """\
# Made by provision. Source it:  . {script}
# Undo it:                       deactivate

if command -v _provision_restore >/dev/null 2>&1; then _provision_restore; fi

_provision_venv={venv}
case $- in *u*) _provision_flags=u; set +u ;; *) _provision_flags= ;; esac
. "$_provision_venv/bin/activate"
{exports}
_provision_restore () {{
{restores}
    unset -f _provision_restore
}}

deactivate () {{
    if command -v _provision_restore >/dev/null 2>&1; then _provision_restore; fi
    unset -f deactivate
    case $- in *u*) _provision_flags=u; set +u ;; *) _provision_flags= ;; esac
    if [ -r "$_provision_venv/bin/activate" ]; then
        . "$_provision_venv/bin/activate"
        deactivate
    else
        if [ -n "${{_OLD_VIRTUAL_PATH-}}" ]; then PATH=$_OLD_VIRTUAL_PATH; unset _OLD_VIRTUAL_PATH; fi
        if [ -n "${{_OLD_VIRTUAL_PS1+x}}" ]; then PS1=$_OLD_VIRTUAL_PS1; unset _OLD_VIRTUAL_PS1; fi
        unset VIRTUAL_ENV VIRTUAL_ENV_PROMPT
    fi
    if [ -n "$_provision_flags" ]; then set -u; fi
    unset _provision_venv _provision_flags
}}
if [ -n "$_provision_flags" ]; then set -u; fi
"""
EXPORT = """\
if [ -n "${{{name}+x}}" ]; then _provision_old_{name}=${name}; else unset _provision_old_{name}; fi
{name}={value}
export {name}"""
RESTORE = """\
    if [ -n "${{_provision_old_{name}+x}}" ]; then {name}=$_provision_old_{name}; unset _provision_old_{name}
    else unset {name}; fi"""


def activate_script(script: str, venv: str, variables: Mapping[str, str]) -> str:
    """The text of ``script``, which activates ``venv`` and sets ``variables``: data, whatever characters they hold.

    Raises Failure for a name that no shell takes.
    """
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise Failure("bad_input", f"{name!r} is not an environment variable's name")
    exports = [EXPORT.format(name=name, value=shlex.quote(value)) for name, value in sorted(variables.items())]
    restores = [RESTORE.format(name=name) for name in sorted(variables)] or ["    :"]
    return TEMPLATE.format(
        script=shlex.quote(script.replace("\n", "?")),
        venv=shlex.quote(venv),
        exports="\n".join(exports),
        restores="\n".join(restores),
    )
