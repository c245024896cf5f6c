"""Other users of this host, for tests that run as root."""
import ctypes
import os
import signal
import socket


class User:
	"""Another user of this host, which root can be: the daemon is told by the kernel who it is."""

	def __init__(self, uid, gid=None, groups=()):
		self.uid, self.gid, self.groups = uid, uid if gid is None else gid, list(groups)

	def become(self):
		"""Turn this process into one of the user's, that ends with its parent."""
		os.setgroups(self.groups)
		os.setgid(self.gid)
		os.setuid(self.uid)
		ctypes.CDLL(None).prctl(1, signal.SIGKILL)

	def connect(self, path):
		return Other(self, path)


class Other:
	"""A process of another user that has connected, and lives as long as its connection: `sock` is the same one here."""

	def __init__(self, user, path):
		ours, theirs = socket.socketpair()
		self.pid = os.fork()
		if self.pid == 0:
			try:
				user.become()
				sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
				sock.connect(path)
				socket.send_fds(theirs, [b"x"], [sock.fileno()])
				sock.close()
				while True:
					signal.pause()
			except BaseException as e:  # noqa: B902
				theirs.send(repr(e).encode())
			finally:
				os._exit(1)
		theirs.close()
		said, fds, _, _ = socket.recv_fds(ours, 1000, 1)
		ours.close()
		if not fds:
			self.end()
			raise AssertionError("uid %d cannot connect: %r" % (user.uid, said))
		self.sock = socket.socket(fileno=fds[0])

	def end(self):
		if self.pid:
			os.kill(self.pid, signal.SIGKILL)
			os.waitpid(self.pid, 0)
		self.pid = None
