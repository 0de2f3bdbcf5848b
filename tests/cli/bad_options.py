"""Options of the parameter server that do not go together, and all that is said of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bad:
    """What is typed after ``trivium train mlp:64 DATA`` (or another model), and the error."""

    name: str
    line: str
    says: str
    model: str = "mlp:64"


BAD = [
    Bad(
        "a consistency that there is not",
        "--design ps --consistency stale",
        "unknown consistency 'stale'; allowed: asp, backup:K, bsp, essp:S, ssp:S",
    ),
    Bad(
        "a consistency without its number",
        "--design ps --consistency ssp",
        "unknown consistency 'ssp' (did you mean 'ssp:S'?); allowed: asp, backup:K, bsp, essp:S, ssp:S",
    ),
    Bad(
        "a backup of every lane",
        "--design ps -w 4 --consistency backup:8",
        "--consistency backup:8 would do without all of --lanes 8; lower the number, or raise --lanes",
    ),
    Bad(
        "the same bits from stale sums",
        "--design ps --consistency ssp:3 --reproducible",
        "--consistency ssp:3: what is summed depends on who is early, so that nothing is the same twice; leave "
        "--reproducible out, or use --consistency bsp",
    ),
    Bad(
        "averages of stale models",
        "--design ps -w 2 --consistency asp --combine model --every 4",
        "--combine model with --consistency asp: models are averaged when all are there; use --consistency bsp, or "
        "--combine sum",
    ),
    Bad(
        "staleness without servers",
        "--design allreduce --consistency essp:2",
        "--consistency essp:2: only parameter servers have that; use --design ps",
    ),
    Bad(
        "staleness for a line search",
        "--design ps --consistency ssp:3",
        "--consistency ssp:3: lbfgs needs whole sums of fresh gradients; sgd, momentum, adam and their kin take steps "
        "as they come (--optimizer adam)",
        model="logistic",
    ),
    Bad(
        "more nodes than workers",
        "--design ps -w 2 --nodes 3",
        "--nodes 3 is more than --workers 2; each node needs a worker: raise --workers or lower --nodes",
    ),
    Bad(
        "nodes without servers",
        "--design allreduce -w 2 --nodes 2",
        "--nodes 2: only parameter servers have that; use --design ps",
    ),
    Bad(
        "threads and nodes",
        "--nodes 2 --threads 4",
        "--threads 4 and --nodes 2: one process has threads, several have workers; give one of them",
    ),
    Bad(
        "copies on one node",
        "--design ps --copies 2",
        "--copies 2: on one node nothing is sent from node to node; raise --nodes",
    ),
    Bad(
        "more copies than nodes",
        "--design ps -w 4 --nodes 2 --copies 3",
        "--copies 3 is more than --nodes 2; a node holds one copy of a shard: raise --nodes or lower --copies",
    ),
    Bad(
        "a filter on one node",
        "--design ps -w 2 --filter int8",
        "--filter int8: on one node nothing is sent from node to node; raise --nodes",
    ),
    Bad(
        "a filter without a name",
        "--design ps -w 2 --nodes 2 --filter int8,,float16",
        "--filter int8,,float16: found '', expected a name, and a number where it has one; write key-cache,int8 or "
        "topk:0.01,float16",
    ),
    Bad(
        "a filter that loses bits which should be the same",
        "--design ps -w 2 --nodes 2 --filter int8 --reproducible",
        "--filter int8: what is lost depends on what each node sends, so that the bits do too; leave --reproducible "
        "out, or use filters that lose nothing: key-cache",
    ),
    Bad(
        "a bandwidth on one node",
        "--design ps -w 2 --bandwidth 1Gbit",
        "--bandwidth 1Gbit: on one node nothing is sent from node to node; raise --nodes",
    ),
    Bad(
        "a bandwidth of unclear units",
        "--design ps -w 2 --nodes 2 --bandwidth 100Mb",
        "--bandwidth 100Mb: expected a number with a unit of bits or bytes (B) a second; write 100Mbit, 1Gbit or 50MB",
    ),
    Bad(
        "lanes that move without servers",
        "--design allreduce -w 2 --balance",
        "--balance: only parameter servers have that; use --design ps",
    ),
    Bad(
        "faults in one process",
        "--design sequential --inject slow:worker0:x4",
        "--inject slow:worker0:x4: the sequential design is one process; use 'ps' or 'allreduce'",
    ),
    Bad(
        "a fault that there is not",
        "--design ps -w 2 --inject snow:worker1:x4",
        "inject 'snow:worker1:x4': unknown fault 'snow' (did you mean 'slow'?); allowed: bandwidth, delay, kill, "
        "partition, slow, slowdisk, stop; as in 'slow:worker1:x4'",
    ),
]
