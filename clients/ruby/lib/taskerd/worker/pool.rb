# frozen_string_literal: true

# What most handlers use is whole before there are threads: one would see it half loaded by another.
require "json"

module Taskerd
  module Worker
    # The threads that run handlers.
    #
    # Steps arrive in batches. Waking a thread costs more than running a small handler, so a batch wakes one thread, and a
    # thread that takes a step while more are left wakes the next: idle threads join in only as long as there is work that the
    # woken ones have not reached. At most one wake-up is under way at a time.
    class Pool
      # Raised in a thread whose handler does not come back.
      class Abandoned < Exception; end # rubocop:disable Lint/InheritException -- no handler is to take it for an error of its own

      # @yield [context] runs a step; true if another thread has taken this one's place meanwhile
      def initialize(threads, name: "taskerd-handler", &run)
        @run = run
        @name = name
        @items = []
        @lock = Mutex.new
        @ready = ConditionVariable.new
        @idle = 0
        @waking = false
        @stopping = false
        @count = 0
        @threads = {}
        threads.times { add_thread }
      end

      # One more thread; in place of one that does not come back.
      def add_thread
        @lock.synchronize do
          @count += 1
          thread = Thread.new { main }
          thread.name = "#{@name}-#{@count}"
          thread.report_on_exception = false
          @threads[thread] = true
        end
      end

      # Queue steps.
      def submit(batch)
        @lock.synchronize do
          @items.concat(batch)
          wake
        end
      end

      # @return [Boolean] true if steps wait
      def busy?
        !@items.empty?
      end

      # Remove and return every step that no thread has begun.
      def take_back
        @lock.synchronize { @items.slice!(0..) }
      end

      # Let the threads end once they are idle. Does not wait for them.
      def stop
        @lock.synchronize do
          @stopping = true
          @ready.broadcast
        end
      end

      # Wait for the threads to end, each at most `timeout` seconds.
      def join(timeout)
        @threads.keys.each { |thread| thread.join(timeout) unless thread == Thread.current }
      end

      private

      def wake
        return if @waking || @idle.zero? || @items.empty?

        @waking = true
        @ready.signal
      end

      def take
        @lock.synchronize do
          while @items.empty?
            return nil if @stopping

            @idle += 1
            @ready.wait(@lock)
            @idle -= 1
            @waking = false
          end
          context = @items.shift
          wake
          context
        end
      end

      def main
        running = nil
        while (context = take)
          running = context
          replaced = @run.call(context)
          running = nil
          return if replaced
        end
      rescue Abandoned
        running = nil
      ensure
        @lock.synchronize { @threads.delete(Thread.current) }
        replace(running) if running
      end

      # A handler has ended its thread, by Thread.exit say.
      def replace(context)
        add_thread unless @stopping
        context.host.thread_ended(context)
      rescue ThreadError # the process is ending
        nil
      end
    end
  end
end
