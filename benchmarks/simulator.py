"""How fast the simulated host predicts: ``python -m benchmarks.simulator``.

A parameter server with a worker on each of many nodes and servers on nodes of their own, under a cost model: seconds of
this machine against the events handled, and what it predicts for the cluster. By default 1,000 workers, 16 servers,
100 steps; a gradient takes 2 ms a lane, the model has 4 MB, links carry 10 Gbit/s.
"""

from __future__ import annotations

import argparse
import gc
import time

from trivium.core.membership import Driver, Members
from trivium.core.pacing import Agenda, Pace
from trivium.core.role import Address
from trivium.runtime.costs import CostPlane, Costs, ForgetfulStore, Links
from trivium.runtime.simulated import Simulation
from trivium.testing.apart import Server, Worker

DRIVER = Address(0, 0)


def cluster(workers: int, servers: int, steps: int, costs: Costs, links: Links) -> Simulation:
    """A run of ``steps`` BSP steps, ready."""
    members = Members(
        tuple(Address(1 + i, 0) for i in range(workers)), tuple(Address(1 + workers + i, 0) for i in range(servers))
    )
    simulation = Simulation(
        seed=0, driver=DRIVER, cost=costs.seconds, store=ForgetfulStore(), arrival=links.arrival, patience=1e9
    )
    agenda = Agenda(Pace(total=steps, every=1, watch="", last_sets=()))
    driver = Driver(DRIVER, members, lanes=workers, shards=servers, agenda=agenda, retry=60.0, patience=1e9, names={})
    simulation.add(driver, None)
    common = {"reproducible": False, "retry": 60.0, "orphan_timeout": 60.0}
    for one in members.workers:
        simulation.add(Worker(one, DRIVER, workers, **common), CostPlane(workers))  # type: ignore[arg-type]
    for one in members.holders:
        role = Server(one, DRIVER, workers, elementwise=True, **common)  # type: ignore[arg-type]
        simulation.add(role, CostPlane(workers))
    return simulation


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    asked = parser.parse_args()
    costs = Costs(gradient=2e-3, apply=2e-4, add=5e-6, spread=0.05, shard_bytes=4_000_000 // asked.servers)
    links = Links(costs, bandwidth=1.25e9, latency=50e-6)
    simulation = cluster(asked.workers, asked.servers, asked.steps, costs, links)
    gc.set_threshold(100_000, 50, 50)  # hundreds of thousands of events lie in the heap and hold no cycles
    began, worked = time.perf_counter(), time.process_time()
    outcome = simulation.run()
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    print(f"{asked.workers} workers x {asked.servers} servers x {asked.steps} steps")
    print(f"  simulated in      {seconds:10.1f} s")
    print(f"  on the processor  {worked:10.1f} s (the rest went to others)")
    print(f"  events            {outcome.events:10,}")
    print(f"  events a second   {outcome.events / worked:10,.0f}")
    print(f"  predicted         {outcome.seconds:10.3f} s, {1e3 * outcome.seconds / asked.steps:.2f} ms a step")
    print(f"  moved over links  {links.moved / 1e9:10.2f} GB")
    stop = outcome.stops.get(DRIVER)
    if stop is None or stop.error:
        raise SystemExit(f"the run did not end well: {stop}")


if __name__ == "__main__":
    main()
