"""Loading Azure's libraries starts no process: a child would inherit the environment."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import sys

def watch(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"):
        raise SystemExit(f"started {event} {arguments[:2]}")

sys.addaudithook(watch)
import drengine.azure
import platform
import azure.identity.aio
from azure.core.pipeline.policies import UserAgentPolicy
UserAgentPolicy(sdk_moniker="x")
print("alone", platform.system(), platform.platform())
"""


def test_a_user_agent_is_made_without_asking_uname():
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alone Linux Linux-")
