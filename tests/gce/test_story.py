"""The story that `make live` tells on Google's cloud, on the stand-in: so it is known to work."""

from __future__ import annotations

from remote_runtime.settings import Settings
from tests.gce import story
from tests.gce.cloud import Cloud


def test_the_life_of_a_vm(cloud_with_jupyter: Cloud) -> None:
    cloud = cloud_with_jupyter
    story.tell("story", project=cloud.project, zone="us-central1-a", settings=Settings.load())
    assert (cloud.vms, cloud.disks) == ([], [])
