"""A worker of WASM modules that keeps the ledger, as handlers in other languages do themselves: play_wasm.py MODULE OPTION..., with the options of `python -m taskerd wasm`."""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "handlers"))
from flows import begin  # noqa: E402
from taskerd.__main__ import main  # noqa: E402
from taskerd.wasm import command  # noqa: E402


class Noted(command.Modules):
	def run(self, name, context):
		begin(context)
		return super().run(name, context)


if __name__ == "__main__":
	command.Modules = Noted
	where = tempfile.mkdtemp(prefix="play-wasm-", dir=os.environ["TASKERD_TEST_GATES"])
	os.mkdir(os.path.join(where, "t"))
	shutil.copyfile(sys.argv[1], os.path.join(where, "t", "play.wasm"))
	sys.exit(main(["wasm", "--dir", where, *sys.argv[2:]]))
