"""The table of all bugs that `make mutants` plants: those that RLHF code bases have shipped, in this one's words."""

from tests.mutants.adapters import ADAPTERS
from tests.mutants.bug import Bug
from tests.mutants.equations import EQUATIONS
from tests.mutants.measuring import MEASURING
from tests.mutants.networks import NETWORKS
from tests.mutants.people import PEOPLE
from tests.mutants.precision import PRECISION
from tests.mutants.sampling import SAMPLING
from tests.mutants.training import TRAINING

BUGS: tuple[Bug, ...] = (*EQUATIONS, *NETWORKS, *SAMPLING, *TRAINING, *PRECISION, *PEOPLE, *MEASURING, *ADAPTERS)
