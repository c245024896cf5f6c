# frozen_string_literal: true

module Taskerd
  module Worker
    # What comes from the daemon. All of it needs the session's lock.
    # @api private
    module Receiving
      private

      def dispatch(link, envelope)
        return on_response(link, envelope[1], envelope[2], envelope[3]) if envelope[0] == Codec::RESPONSE

        method, params = envelope[1], envelope[2]
        case method
        when "step.execute" then on_execute(params)
        when "result.ack" then on_ack(params)
        when "step.cancel" then on_cancel(params)
        when "server.draining" then Logger.instance.info("taskerd is stopping; running steps go on, their results follow after the reconnect")
        when "worker.finish" then on_finish
        when "templates.changed" then @at_templates&.call
        when "error" then Logger.instance.error("taskerd complains: #{DaemonError.from_wire(params).message}")
        end
      rescue KeyError, TypeError, NoMethodError, ArgumentError => e
        raise Client::ProtocolError, "#{envelope[1]} lacks a field or has one of the wrong type: #{e.message}"
      end

      def on_finish
        Logger.instance.info("an operator sends this worker home; it finishes what it runs, and ends")
        drain
      end

      def on_execute(params)
        now = Transport.now
        batch = params.fetch("steps").filter_map do |step|
          context = Types::StepContext.from_step(step, self, now)
          key = context.key
          next if (@open.key?(key) || @unacked.key?(key)) && sent_twice?(key, step)

          @open[key] = context
        end
        @counters[:received] += batch.size
        @draining ? release(batch) : @pool.submit(batch)
      end

      # True if the attempt is here already. With another claim it is a new delivery (the first was given back without using
      # an attempt), and what this process still does for the first is void.
      def sent_twice?(key, step)
        old = @open[key] || @unacked[key][0]
        return true if old.step["claim"] == step["claim"]

        cancel(old, "stale")
        @earlier[key] = (@earlier[key] || 0) + 1 if @unacked.delete(key)
        @open.delete(key)
        false
      end

      def on_ack(params)
        @progress = true
        params.fetch("acks").each do |ack|
          key = "#{ack.fetch("step_uuid")}/#{ack.fetch("attempt")}"
          @unacked.delete(key) unless !@earlier.empty? && was_earlier?(key)
          status = ack.fetch("status").to_s
          @counters[status.to_sym] += 1 if @counters.key?(status.to_sym)
          tell_refused(ack, status) unless status == "recorded" || status == "duplicate"
        end
        poke if @draining
      end

      def tell_refused(ack, status)
        text = "result of step #{ack["step_uuid"]}, attempt #{ack["attempt"]}: #{status} #{ack["message"]}"
        Logger.instance.public_send(status == "stale" ? :info : :error, text)
      end

      # True if an acknowledgement is for an earlier delivery of an attempt than the one held.
      def was_earlier?(key)
        count = @earlier.delete(key) || 0
        @earlier[key] = count - 1 if count > 1
        count.positive?
      end

      def on_cancel(params)
        context = @open["#{params.fetch("step_uuid")}/#{params.fetch("attempt")}"]
        cancel(context, (params["reason"] || "stale").to_s) if context
      end

      def cancel(context, reason)
        @cancelled << [Transport.now + @abandon_after, context] if !context.cancelled? && @abandon_after
        context.cancel!(reason)
      end

      # Wait no longer for cancelled handlers whose time is up: a new thread takes the place of each, and the daemon gets its
      # place back. Returns the seconds until the next one's time is up.
      def abandon
        now = Transport.now
        late, @cancelled = @cancelled.partition { |due, _| due <= now }
        late.each do |_, context|
          if context.stage.is_a?(Thread) then abandon_one(context)
          elsif context.stage == :waiting && @open[context.key].equal?(context)
            @cancelled << [now + 1.0, context] # behind others that do not come back
          end
        end
        @cancelled.map { |due, _| due - now }.min || 3600.0
      end

      def abandon_one(context)
        thread = context.stage
        context.stage = :abandoned
        @pool.add_thread
        @counters[:abandoned] += 1
        Logger.instance.error("step #{context.step_uuid} of handler #{context.handler_name} was cancelled (#{context.cancel_reason}) and does " \
                              "not return; its thread is ended")
        if @open[context.key].equal?(context)
          failure = Types::StepHandlerCallResult.error(error_type: "cancelled", retryable: true,
                                                       message: "cancelled (#{context.cancel_reason}), and the handler did not return")
          deliver(context, @runner.encode(context, failure, 0.0))
        end
        thread.raise(Pool::Abandoned)
      end

      # -- resuming --------------------------------------------------------------------------------

      # First thing on a connection: which attempts this process still has. Those whose results are about to be sent again count
      # too, lest the daemon gives them to others before the results arrive.
      def resume(link)
        held = [*@open.values, *@unacked.values.map(&:first)]
        return become_ready(link) if held.empty?

        steps = held.map { |context| context.step.slice("step_uuid", "attempt", "claim") }
        link.resume_id = send_request(link, "session.resume", { "steps" => steps })
      end

      # Then the results that were not acknowledged, and the requests that were not answered.
      def become_ready(link)
        link.ready = true
        @out = []
        send_again(link) unless @unacked.empty?
        asked = [*@requests.values, *@waiting]
        @requests = {}
        @waiting = []
        asked.each { |request| send_asked(link, request) }
        send_message(link, "worker.update", { "draining" => true }) if @draining
      end

      def send_again(link)
        Logger.instance.info("sending #{@unacked.size} unacknowledged results again")
        limit = @runner.room[0]
        @unacked.each { |key, (context, data)| @unacked[key] = [context, too_large(context, data.bytesize, limit)] if data.bytesize > limit }
        send_results(link, @unacked.values.map(&:last))
      end

      # For a daemon that came back with smaller limits.
      def too_large(context, size, limit)
        failure = Types::StepHandlerCallResult.error(error_type: "result_too_large", retryable: false,
                                                     message: "the handler's result cannot be sent: #{size} bytes, the daemon takes #{limit}")
        @runner.encode(context, failure, 0.0)
      end

      def on_response(link, id, error, result)
        if id == link.resume_id
          link.resume_id = nil
          raise Client::ConnectionLostError, "session.resume failed: #{DaemonError.from_wire(error).message}" if error

          on_resumed(Transport.map(result))
          return become_ready(link)
        end
        @requests.delete(id)&.settle(error && DaemonError.from_wire(error), result)
      end

      # Attempts that went to others are dropped; their handlers are told. A result is sent again whatever this says, for it may
      # have been recorded before the connection broke.
      def on_resumed(result)
        Array(result["steps"]).each do |step|
          next if step["status"] == "held"

          context = @open.delete("#{step.fetch("step_uuid")}/#{step.fetch("attempt")}")
          next if context.nil?

          cancel(context, "stale")
          @counters[:stale] += 1
        end
      end
    end
  end
end
