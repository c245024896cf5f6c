"""One call of the daemon that reads or writes a socket or a file fails, or is its last, another one each time, on whichever connection it happens to be: that of a worker, of a client, of the
database, the log. A call that fails never ends the daemon; what it has taken on is done as if nothing had been."""
import errno
import signal
import unittest

from fault import LONG
from inject import AFTER, BEFORE
from test_memory import Injected

TRIES = 600 if LONG else 8
SPAN = 60  # calls: about as many as a task of two steps takes
ERRORS = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.ENOBUFS, errno.ETIMEDOUT, errno.EMFILE, errno.EBADF)


class Calls(Injected):
	deadly = False

	def may_end(self, status, words):
		self.assertTrue(self.deadly and status == -signal.SIGKILL, "%s\n%s" % (status, words))

	def strike(self, errors):
		self.run_all(TRIES, lambda n: self.injector.strike_call(self.random.randrange(SPAN) if n else 0, self.random.choice(errors)))  # the first one is certain to be made
		self.assertGreater(self.injector.struck, 0, "no call was struck")

	def test_one_fails(self):
		self.strike(ERRORS)
		self.assertEqual(self.deaths, 0)

	def test_one_is_the_last(self):
		self.deadly = True
		self.strike((BEFORE, AFTER))
		self.assertGreater(self.deaths, 0)


if __name__ == "__main__":
	unittest.main()
