# frozen_string_literal: true

module Taskerd
  module Client
    # Events of a task, each a Hash. They end with the task. After a lost connection the watch goes on with the state found
    # then.
    class Watch
      include Enumerable

      # Events kept for a reader that is slow; the oldest go first.
      BUFFER = 65_536

      attr_reader :task_uuid
      # @return [Types::ClientTaskResponse] the task as it was when the watch began (again)
      attr_reader :task

      def initialize(client, task_uuid)
        @client = client
        @task_uuid = task_uuid
        @events = []
        @lock = Mutex.new
        @ready = ConditionVariable.new
        @lost = true
        @closed = @finished = false
        client.attach(self)
        begin
          start
        rescue StandardError
          close
          raise
        end
      end

      # @return [Boolean] true once the task is over
      def finished?
        @finished
      end

      # The next event; nil if none comes within `timeout` seconds, or at the end.
      def next(timeout = nil)
        deadline = timeout && (Transport.now + timeout)
        loop do
          if @finished || @closed
            close
            return nil
          end
          event, lost = take(deadline)
          if event
            @finished = event["kind"] == "task" && Types::FINISHED_STATES.include?(event["state"])
            return event
          end
          return nil unless lost

          start
        end
      end

      def each
        while (event = self.next)
          yield event
        end
        self
      end

      # End the watch.
      def close
        return if @closed

        @closed = true
        @client.detach(self)
        @lock.synchronize { @ready.broadcast }
      end

      # @api private
      def put(events)
        @lock.synchronize do
          @events.concat(events)
          @events.shift(@events.size - BUFFER) if @events.size > BUFFER
          @ready.broadcast
        end
      end

      # @api private
      def lost
        @lock.synchronize do
          @lost = true
          @ready.broadcast
        end
      end

      private

      def start
        @lock.synchronize { @lost = false }
        found = @client.request("task.watch", { task_uuid: @task_uuid })
        @task = Types::ClientTaskResponse.from_wire(found)
        # Nothing was left unread before, so what has arrived is newer than the answer.
        @lock.synchronize { @events.unshift({ "kind" => "task", "state" => found["state"], "at" => found["updated_at"] }) }
      end

      # @return [Array] an event or nil, and whether the connection was lost
      def take(deadline)
        @lock.synchronize do
          while @events.empty? && !@lost && !@closed
            left = deadline && (deadline - Transport.now)
            return [nil, false] if left && left <= 0

            @ready.wait(@lock, left)
          end
          [@events.shift, @lost]
        end
      end
    end
  end
end
