#!/usr/bin/python3
"""A local process that means harm: mutated frames and random bytes to daemons' sockets, until it is ended. Each line of its output is so many connections."""
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import hostile  # noqa: E402
from wire import frame  # noqa: E402

A_LINE = 100
PAUSE_S = 0.02  # between two connections: it is to do harm by what it says, not by taking the machine


def attack(rng, path, good):
	"""One connection. What the daemon says to it does not matter."""
	hello = {**hostile.HELLO, "worker": {"handlers": ["nothing"], "max_concurrency": 1}} if rng.randrange(3) == 0 else hostile.HELLO
	with socket.socket(socket.AF_UNIX) as s:
		s.settimeout(2)
		s.connect(path)
		if rng.randrange(5) == 0:
			s.sendall(rng.randbytes(rng.choice((1, 4, 5, 300, 5000))))
		else:
			s.sendall(frame([0, 1000, "hello", hello]))
			for _ in range(rng.choice((1, 1, 5))):
				s.sendall(hostile.mutate(rng, rng.choice(good)))
		if rng.randrange(3):
			s.shutdown(socket.SHUT_WR)
			while s.recv(65536):
				pass


def main(seed, ns, task, step, *paths):
	rng = random.Random(int(seed))
	good = hostile.frames(rng, ns, task, step)
	done = 0
	while True:
		try:
			attack(rng, rng.choice(paths), good)
		except OSError:
			pass  # dropped, refused, or nobody there
		done += 1
		time.sleep(PAUSE_S)
		if done % A_LINE == 0:
			print(A_LINE, flush=True)


if __name__ == "__main__":
	main(*sys.argv[1:])
