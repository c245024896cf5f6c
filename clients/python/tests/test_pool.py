"""The handler threads alone."""

import threading
import unittest

import support  # noqa: F401 - puts the sources on the path
from support import PATIENCE

from taskerd._pool import HandlerPool


class Pool(unittest.TestCase):
    def test_every_item_runs_once_in_any_number_of_threads(self):
        for threads in (1, 2, 8, 32):
            with self.subTest(threads):
                seen, done = [], threading.Semaphore(0)

                def run(item):
                    seen.append(item)
                    done.release()

                pool = HandlerPool(threads, run, lambda: None)
                total = 0
                for size in [1, 2, 3, 50, 1] * 40:
                    pool.submit(list(range(total, total + size)))
                    total += size
                for _ in range(total):
                    self.assertTrue(done.acquire(timeout=PATIENCE))
                self.assertEqual(sorted(seen), list(range(total)))
                pool.stop()
                pool.join(PATIENCE)
                self.assertFalse(any(t.is_alive() for t in pool._threads))

    def test_all_threads_join_in_when_handlers_block(self):
        barrier = threading.Barrier(9)
        pool = HandlerPool(8, lambda item: barrier.wait(PATIENCE), lambda: None)
        for _ in range(20):
            pool.submit([None] * 8)
            barrier.wait(PATIENCE)
        for _ in range(20):
            for _ in range(8):
                pool.submit([None])
            barrier.wait(PATIENCE)
        pool.stop()
        pool.join(PATIENCE)

    def test_a_thread_that_waits_takes_what_comes_later(self):
        first, second = threading.Event(), threading.Event()
        ran = {1: first, 2: second}
        pool = HandlerPool(1, lambda item: ran[item].set(), lambda: None)
        pool.submit([1])
        self.assertTrue(first.wait(PATIENCE))
        pool.submit([2])
        self.assertTrue(second.wait(PATIENCE))
        pool.stop()
        pool.join(PATIENCE)

    def test_an_item_that_comes_just_before_a_thread_is_known_to_be_idle(self):
        done = threading.Event()
        pool = HandlerPool(0, lambda item: done.set(), lambda: None)

        class Idle(list):
            def append(self, lock):
                if not done.is_set():
                    pool._items.append(1)  # submit found nobody to wake
                super().append(lock)

        pool._idle = Idle()
        thread = threading.Thread(target=pool._main, daemon=True)
        thread.start()
        self.assertTrue(done.wait(PATIENCE))
        pool._threads.append(thread)
        pool.stop()
        pool.join(PATIENCE)
        self.assertFalse(thread.is_alive())

    def test_what_was_not_begun_can_be_taken_back(self):
        entered, leave, ran = threading.Event(), threading.Event(), []

        def run(item):
            ran.append(item)
            entered.set()
            leave.wait(PATIENCE)

        exits = []
        pool = HandlerPool(1, run, lambda: exits.append(1))
        pool.submit([1, 2, 3])
        self.assertTrue(entered.wait(PATIENCE))
        self.assertEqual(pool.take_back(), [2, 3])
        leave.set()
        pool.stop()
        pool.join(PATIENCE)
        self.assertEqual((ran, exits), ([1], [1]))

    def test_a_thread_outlives_an_error(self):
        done = threading.Event()

        def run(item):
            if item:
                raise MemoryError
            done.set()

        pool = HandlerPool(1, run, lambda: None)
        with self.assertLogs("taskerd.worker", "CRITICAL"):
            pool.submit([1])
            pool.submit([0])
            self.assertTrue(done.wait(PATIENCE))
        pool.stop()
        pool.join(PATIENCE)


if __name__ == "__main__":
    unittest.main()
