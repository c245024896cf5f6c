# frozen_string_literal: true

module Taskerd
  module Worker
    # What goes to the daemon. Methods that say so need the session's lock.
    # @api private
    module Sending
      REQUEST_TIMEOUT = 60.0
      # Progress and log lines are dropped while more than this waits to be sent.
      MAX_BACKLOG = 1 << 20
      # Results that are sent even though more steps are ready to run.
      MAX_BATCH = 64

      # A request of a handler's thread, kept until it is answered, over reconnects.
      class Request
        attr_reader :method, :params, :error, :result

        def initialize(method, params)
          @method = method
          @params = params
          @done = false
          @ready = ConditionVariable.new
        end

        # With the lock.
        def settle(error, result)
          @error = error
          @result = result
          @done = true
          @ready.broadcast
        end

        # With the lock.
        def wait(lock, timeout)
          deadline = Transport.now + timeout
          until @done
            left = deadline - Transport.now
            raise Client::RequestTimeoutError, "no answer to #{@method} within #{timeout.to_i} s" if left <= 0

            @ready.wait(lock, left)
          end
          raise @error if @error

          @result
        end
      end

      # -- handlers' threads -----------------------------------------------------------------------

      # Results of earlier steps.
      # @return [Array<Hash>] pages
      def fetch_dependencies(step_uuid, names)
        params = { "step_uuid" => step_uuid }
        params["names"] = names if names
        pages = []
        loop do
          pages << request("step.dependencies", params)
          return pages if (params["cursor"] = pages.last["next_cursor"]).nil?
        end
      end

      # Returns when the checkpoint is durable.
      # @return [String] what became of it
      def store_checkpoint(params)
        request("step.checkpoint", params)["status"].to_s
      end

      # Dropped while there is no connection.
      def send_progress(step_uuid, attempt, progress)
        params = { "step_uuid" => step_uuid, "attempt" => attempt }
        params["progress"] = Codec::Plain.of(progress, "progress") unless progress.nil?
        notify("step.heartbeat", params)
      end

      # Dropped while there is no connection.
      def send_log(step_uuid, level, message, fields)
        params = { "level" => LogBridge::LEVELS.include?(level) ? level : "info", "message" => LogBridge.text(message) }
        params["step_uuid"] = step_uuid if step_uuid
        params["fields"] = fields.to_h { |k, v| [LogBridge.text(k), LogBridge.text(v)] } unless fields.empty?
        notify("step.log", params)
      end

      # A handler has ended its thread instead of returning.
      def thread_ended(context)
        failure = Types::StepHandlerCallResult.error(error_type: Types::ErrorTypes::UNEXPECTED_ERROR, retryable: true,
                                                     message: "the handler ended its thread")
        packed = @runner.encode(context, failure, 0.0)
        @lock.synchronize do
          next if context.stage == :abandoned

          context.stage = :finished
          deliver(context, packed)
        end
      end

      private

      def init_sending
        @out = []
        @messages = String.new(encoding: Encoding::BINARY)
        @prefix = Codec.list_prefix("step.result", "results")
        @wake_in, @wake_out = IO.pipe
        @idle = @poked = false
        @link = nil
      end

      # The section in which a handler's thread must not be given up: it may hold what others need.
      def undisturbed(&block)
        Thread.handle_interrupt(Pool::Abandoned => :never, &block)
      end

      def notify(method, params)
        data = Codec.frame(Codec.pack_checked([Codec::NOTIFICATION, method, params]))
        undisturbed do
          @lock.synchronize do
            next unless @connected && @messages.bytesize + (@link ? @link.backlog_size : 0) < MAX_BACKLOG

            @messages << data
            poke if @idle
          end
        end
      end

      def request(method, params)
        asked = Request.new(method, params)
        answer = @lock.synchronize do
          raise Client::ConnectionLostError, "the worker has ended" if @finished

          if @link&.ready
            flush(@link) # what was logged before comes before
            send_asked(@link, asked)
          else
            @waiting << asked
          end
          asked.wait(@lock, REQUEST_TIMEOUT)
        end
        Transport.map(answer)
      end

      # -- with the lock ---------------------------------------------------------------------------

      # A step has ended.
      def deliver(context, packed)
        key = context.key
        return unless @open[key].equal?(context)

        @open.delete(key)
        @unacked[key] = [context, packed]
        return unless @link&.ready

        @out << packed
        if @out.size >= MAX_BATCH || !@pool.busy? then flush(@link)
        elsif @idle then poke
        end
        poke if @draining || @link.blocked?
      end

      # Send what handlers have left.
      def flush(link)
        unless @messages.empty?
          link.send(@messages)
          @messages = String.new(encoding: Encoding::BINARY)
        end
        return if @out.empty?

        send_results(link, @out)
        @out = []
      end

      # As few frames as the limits allow. An item has at least one byte, so a frame below `max_items` bytes needs no counting;
      # a larger item was counted alone and goes alone.
      def send_results(link, items)
        cap = @runner.room.min
        batch = []
        size = 0
        items.each do |item|
          if size.positive? && size + item.bytesize > cap
            send_batch(link, batch)
            batch = []
            size = 0
          end
          batch << item
          size += item.bytesize
        end
        send_batch(link, batch)
      end

      def send_batch(link, items)
        payload = @prefix.dup << Codec.array_header(items.size)
        items.each { |item| payload << item }
        link.send(Codec.frame(payload))
      end

      def send_message(link, method, params)
        link.send(Codec.frame(Codec.pack([Codec::NOTIFICATION, method, params])))
      end

      def send_request(link, method, params)
        id = @next_id
        @next_id = id < 0xffffffff ? id + 1 : 1
        link.send(Codec.frame(Codec.pack([Codec::REQUEST, id, method, params])))
        id
      end

      def send_asked(link, asked)
        @requests[send_request(link, asked.method, asked.params)] = asked
      end

      # -- waking the session's thread -------------------------------------------------------------

      # Safe in a signal handler.
      def poke
        return if @poked

        @poked = true
        @wake_out.write_nonblock("w", exception: false)
      rescue IOError, SystemCallError # it has ended
        nil
      end

      # Wait for the daemon, a poke, or the time. True if the daemon has sent something.
      def idle(link, wait)
        return false if @poked && clear_pokes

        writers = link.blocked? ? [link.socket] : nil
        ready = IO.select([link.socket, @wake_in], writers, nil, [wait, 0.0].max)
        return false if ready.nil?

        clear_pokes if ready[0].include?(@wake_in)
        ready[0].include?(link.socket)
      ensure
        @idle = false
      end

      def clear_pokes
        @poked = false
        @wake_in.read_nonblock(4096, exception: false)
        true
      end

      def close_pipe
        @wake_in.close
        @wake_out.close
      end
    end
  end
end
