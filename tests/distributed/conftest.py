from collections.abc import Iterator

import pytest

from usl_backend.distributed import Cluster, connect
from usl_backend.distributed.cluster import load_ray, stay_on_this_machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each, real Ray processes on this machine."""
    stay_on_this_machine()
    load_ray()
    from ray.cluster_utils import Cluster as Machines

    # The object stores are small, as a test is.
    node = {"num_cpus": 1, "object_store_memory": 200 << 20}
    head = {**node, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    machines = Machines(initialize_head=True, head_node_args=head)
    try:
        machines.add_node(**node, node_ip_address="127.0.0.1")
        machines.wait_for_nodes()
        with connect(machines.address) as connected:
            yield connected
    finally:
        machines.shutdown()
