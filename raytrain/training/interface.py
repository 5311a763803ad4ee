"""The network card that workers meet each other on."""

import os

import psutil
from ray.util import get_node_ip_address


def meet_where_ray_does() -> None:
    """Have gloo listen at this node's address in Ray, unless GLOO_SOCKET_IFNAME says where.

    Left alone, it listens where the host's name leads, which on a Debian or an Ubuntu is 127.0.1.1:
    other nodes find nobody there. Runs in each process of a cluster's job, before all else.
    """
    address = get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if address in {found.address for found in addresses}:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
