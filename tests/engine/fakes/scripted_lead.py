"""A worker that leads scripted ranks, through the real launcher."""

import sys

from engine.jobs import lead, worker
from engine.train import session

if __name__ == "__main__":
    lead.RANK = "tests.engine.fakes.scripted_rank"
    session.prepare_data = lambda context: None  # the script needs none
    sys.exit(worker.main(train=lead.run))
