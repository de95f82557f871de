"""The fault campaign in small: some of every kind of fault; `make faults` plays them all."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing

import pytest
from faultlab import proxy
from faultlab.__main__ import attempt, failure
from faultlab.images import WORLDS, Camera
from faultlab.trial import Fault

LONG = bool(os.environ.get("DRENGINE_FAULTS_LONG"))
SEED = int(os.environ.get("DRENGINE_FAULT_SEED", "1"))
POINTS = {
    "journal.before_write": 140,
    "journal.torn": 140,
    "journal.after_sync": 140,
    "signals.before_delete": 4,
    "object.before_write": 4,
    "http.before_send": 180,
    "http.after_response": 180,
}
CHANGES = {"create": 2, "upload": 3, "restore": 6}


def _sample() -> list[Fault]:
    rng = random.Random(f"sample/{SEED}")
    kills = [
        Fault((f"{place}:{rng.randint(1, most)}:kill",))
        for place, most in POINTS.items()
        for _ in range(2 if LONG and most > 10 else 1)
    ]
    pair = Fault(("journal.after_sync:60:kill", "http.before_send:30:kill"))
    spoilt = [Fault(proxy=(fault, "change", rng.randint(1, 13))) for fault in proxy.FAULTS]
    late = [Fault(proxy=("late", "change", number)) for number in CHANGES.values()]
    return [*kills, pair, *spoilt, *late]


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", _sample(), ids=str)
def test_a_fault_doubles_nothing_and_loses_nothing(quick_stage, zygote, tmp_path, fault):
    verdict = attempt(quick_stage, zygote, tmp_path, SEED, fault, keep=False)
    assert verdict.is_good, failure(SEED, fault, verdict)
    assert verdict.starts <= len(fault.points) + 3, "it should not take so many starts"


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_recovery_goes_on_from_an_image_of_a_point_as_after_a_kill(quick_stage, zygote, tmp_path):
    number = SEED % WORLDS
    world = Fault(world=number)
    with closing(Camera(tmp_path / "images", number)) as camera:
        whole = attempt(quick_stage, zygote, tmp_path, SEED, world, keep=False, camera=camera)
    assert whole.is_good, failure(SEED, world, whole)
    assert camera.missing() == "", "every point of the world has its image"
    assert len(camera.images) > 20, "every kind of point has its share of a world"
    for image in camera.images[:: len(camera.images) // 3][:3]:
        fault = image.fault(world)
        verdict = attempt(quick_stage, zygote, tmp_path, SEED, fault, keep=True, image=image)
        assert verdict.is_good, failure(SEED, fault, verdict)
        (log,) = tmp_path.glob("*/engine-*.log")
        assert log.name == "engine-1.log", "the first process is the one of the image"
        assert "run opened" in log.read_text()
        shutil.rmtree(log.parent)
