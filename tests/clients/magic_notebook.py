"""cloudmlmagic 0.0.5 in a notebook, cell by cell as its README has them."""

from __future__ import annotations

import json
import os
import sys

from cloudmlmagic import cloudmlmagic
from googleapiclient import discovery
from IPython.core.interactiveshell import InteractiveShell
from static_token import StaticToken


class Discovery:
    @staticmethod
    def build(*names, credentials):
        return discovery.build(
            *names,
            credentials=credentials,
            client_options={"api_endpoint": os.environ["CLIENT_URL"]},
            cache_discovery=False,
        )


CELL = """import sys
place = "a job" if "trainer" in sys.argv[0] else "the notebook"
"""
cloudmlmagic.discovery = Discovery
cloudmlmagic.GoogleCredentials.get_application_default = staticmethod(StaticToken)

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "cloudmlmagic.cloudmlmagic")
shell.run_cell_magic("ml_init", "-projectId local -bucket graft", "{'install_requires': ['numpy']}")
shell.run_cell_magic("ml_code", "", CELL)
shell.run_cell_magic("ml_run", "cloud", "print('trained in', place)\n")
magics = shell.magics_manager.registry["MLMagics"]
magics.ml._http.close()
sys.stdout.write(json.dumps({"job": magics.job_id, "place": shell.user_ns["place"]}) + "\n")
