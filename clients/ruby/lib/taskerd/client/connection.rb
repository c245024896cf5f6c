# frozen_string_literal: true

module Taskerd
  module Client
    # A connection to the daemon, made on first use and made again when it breaks.
    #
    # Safe for use by several threads, and after a fork: the child gets a connection of its own.
    #
    # A request whose connection breaks is repeated if that is harmless (reading, or creating with an `idempotency_key`);
    # otherwise it raises ConnectionLostError, whose `sent?` tells whether the daemon may have done it.
    class Connection
      include Events

      # Requests `task.create_many` under way at a time.
      BULK_WINDOW = 4
      # Steps of a task that are asked for at a time, so that a large one keeps nobody waiting.
      STEPS_PAGE = 1000

      attr_reader :socket, :timeout

      # @param socket [String] the daemon's socket; see {Taskerd.socket_path} for where it is looked for
      # @param initiator [String] stored with every task created here
      # @param source_system [String] the same
      # @param timeout [Numeric] seconds that a request may take unless it says otherwise, reconnecting included
      # @param connect_timeout [Numeric] seconds to try connecting within one request; default is the request's timeout, 0 tries once
      def initialize(socket: nil, initiator: "taskerd-ruby", source_system: "taskerd", timeout: 30.0, connect_timeout: nil)
        @socket = Taskerd.socket_path(socket)
        @timeout = timeout
        @connect_timeout = connect_timeout
        @defaults = { initiator: initiator, source_system: source_system }
        @closed = false
        after_fork
      end

      # -- connection ------------------------------------------------------------------------------

      # Connect now rather than with the first request.
      # @return [Transport::Welcome]
      def connect(timeout = @timeout)
        open(Transport.now + timeout).welcome
      end

      # Close the connection. The client cannot be used afterwards.
      def close
        channel = @lock.synchronize do
          @closed = true
          found = @channel
          @channel = nil
          found
        end
        channel.close if channel && channel.pid == ::Process.pid
      end

      # Send any request of the protocol.
      # @return [Object] its result; raises the exception of the daemon's error code, RequestTimeoutError, or ConnectionLostError
      def request(method, params = {}, timeout: @timeout)
        params = Calls.params(params)
        deadline = Transport.now + timeout
        backoff = Transport::Backoff.new
        loop do
          return ask(method, params, deadline)
        rescue ConnectionLostError => e
          raise if e.sent? && !Calls.repeatable?(method, params)
          raise if @closed || Transport.now >= deadline || @connect_timeout&.zero?
        rescue ShuttingDownError
          delay = backoff.next
          raise if Transport.now + delay >= deadline

          sleep(delay)
        end
      end

      # -- creating --------------------------------------------------------------------------------

      # Create a task. The answer comes when it is durable.
      #
      # `version` defaults to the newest. `more` are further params of `task.create`: `tags`, `priority`, `correlation_id`,
      # `parent_correlation_id`, `traceparent`, `tracestate`, `idempotency_key`, `run_at`, `initiator`, `source_system`.
      # @return [Types::ClientTaskResponse]
      def create_task(title = nil, name: title, namespace: "default", context: {}, version: nil, reason: "Task requested", timeout: @timeout, **more)
        if name.is_a?(Types::TaskRequest)
          return create_task(**{ namespace: "default", **name.to_params }, timeout: timeout, **more)
        end
        raise ArgumentError, "create_task needs name:" if name.nil?

        params = Calls.params({ **@defaults, **more, name: name.to_s, namespace: namespace, context: Calls.context(context), version: version,
                                reason: reason })
        answer = request("task.create", params, timeout: timeout)
        Types::ClientTaskResponse.from_wire({ **params, **answer })
      end

      # Create many tasks; each is a Hash of {#create_task}'s arguments. The list may be long: it is sent in requests that respect
      # the daemon's limits, a few at a time. Each task stands alone; nothing is raised for what befalls a single one.
      # @return [Array<Types::ClientCreateOutcome>] in order
      def create_tasks(tasks, timeout: @timeout)
        bulk = Bulk.new(open(Transport.now + timeout).limits, @defaults)
        under_way = []
        bulk.each_chunk(tasks) do |chunk|
          finish_chunk(bulk, *under_way.shift, timeout) if under_way.size >= BULK_WINDOW
          begin
            channel = open(Transport.now + timeout)
            under_way << [chunk, channel, channel.send_bulk(chunk.items)]
          rescue DaemonError
            repeat_chunk(bulk, chunk, timeout)
          end
        end
        finish_chunk(bulk, *under_way.shift, timeout) until under_way.empty?
        bulk.outcomes
      end

      # -- reading ---------------------------------------------------------------------------------

      # A task, with its steps (all of them, however many pages) unless `steps` is false.
      # @return [Types::ClientTaskResponse]
      def get_task(task_uuid, steps: true, timeout: @timeout)
        params = { task_uuid: task_uuid.to_s, steps: steps, limit: STEPS_PAGE }
        whole = request("task.get", params, timeout: timeout).dup
        while (cursor = whole.delete("next_cursor"))
          page = request("task.get", { **params, cursor: cursor }, timeout: timeout)
          whole = { **whole, "steps" => whole["steps"] + page["steps"], "next_cursor" => page["next_cursor"] }
        end
        Types::ClientTaskResponse.from_wire(whole)
      end

      # Tasks, newest first. For the next page pass `next_cursor` as `cursor`; `offset` works too but reads what it skips.
      # @return [Types::ClientTaskListResponse]
      def list_tasks(limit: 50, offset: 0, namespace: nil, status: nil, name: nil, cursor: nil)
        filter = { namespace: namespace, state: status, name: name }
        skip = offset
        whole = cursor.nil?
        while skip.positive?
          page = request("task.list", { **filter, limit: [skip, 1000].min, cursor: cursor })
          skip -= (page["tasks"] || []).size
          cursor = page["next_cursor"]
          return Types::ClientTaskListResponse.from_wire({}, limit, offset, whole) if cursor.nil?
        end
        Types::ClientTaskListResponse.from_wire(request("task.list", { **filter, limit: limit, cursor: cursor }), limit, offset, whole)
      end

      # All tasks, newest first, read page by page.
      # @return [Enumerator<Types::ClientTaskResponse>]
      def each_task(**filter)
        return to_enum(:each_task, **filter) unless block_given?

        cursor = nil
        loop do
          page = list_tasks(**filter, limit: 1000, cursor: cursor)
          page.tasks.each { |task| yield task }
          cursor = page.next_cursor
          break if cursor.nil?
        end
      end

      # @return [Array<Types::ClientStepResponse>]
      def list_task_steps(task_uuid)
        get_task(task_uuid).steps
      end

      # A step of a task, by uuid or name; NotFoundError if the task has none such.
      # @return [Types::ClientStepResponse]
      def get_step(task_uuid, step)
        found = list_task_steps(task_uuid).find { |row| [row.step_uuid, row.name].include?(step.to_s) }
        found || raise(NotFoundError, "task #{task_uuid} has no step #{step}")
      end

      # @return [Hash] `transitions`, `attempts` and `actions` of a task; all of them, however many pages
      def get_task_history(task_uuid)
        params = { task_uuid: task_uuid.to_s }
        whole = request("task.history", params)
        while (cursor = whole.delete("next_cursor"))
          page = request("task.history", { **params, cursor: cursor })
          whole.update(page) { |_, before, after| before.is_a?(Array) ? before + after : after }
        end
        whole
      end

      # Every attempt of a step (by uuid or name), oldest first.
      # @return [Array<Types::ClientStepAuditResponse>]
      def get_step_audit_history(task_uuid, step)
        Types::ClientStepAuditResponse.of(task_uuid.to_s, step.to_s, get_task_history(task_uuid))
      end

      # -- following -------------------------------------------------------------------------------

      # Wait until nothing moves without an operator (`settled?`), or `timeout` seconds. Does not poll.
      # @return [Types::ClientWaitResult]
      def wait(task_uuid, timeout = nil)
        deadline = timeout && (Transport.now + timeout)
        loop do
          ms = Calls.wait_ms(deadline && (deadline - Transport.now))
          answer = request("task.wait", { task_uuid: task_uuid.to_s, timeout_ms: ms }, timeout: (ms / 1000.0) + @timeout)
          result = Types::ClientWaitResult.from_wire(answer)
          return result if result.settled? || (deadline && Transport.now >= deadline)
        end
      end

      # Wait as {#wait} does; RequestTimeoutError if the task is not settled.
      # @return [Types::ClientTaskResponse]
      def wait_for_task(task_uuid, timeout: nil, steps: true)
        result = wait(task_uuid, timeout)
        raise RequestTimeoutError, "task #{task_uuid} is #{result.state} after #{timeout} s" unless result.settled?

        get_task(task_uuid, steps: steps)
      end

      # Follow a task. The first event tells the state at the beginning; the events end with the task.
      # @yield [event] each event, a Hash
      # @return [Watch] without a block
      def watch(task_uuid, &block)
        found = Watch.new(self, task_uuid.to_s)
        return found unless block

        begin
          found.each(&block)
        ensure
          found.close
        end
      end

      # -- steering --------------------------------------------------------------------------------

      # Cancel a task; running handlers are told. ConflictError if it is finished.
      def cancel_task(task_uuid, reason: nil)
        Taskerd.indifferent({ **request("task.cancel", { task_uuid: task_uuid.to_s, reason: reason }), "cancelled" => true })
      end

      # -- templates -------------------------------------------------------------------------------

      # Register a template (YAML or JSON text). InvalidTemplateError lists what is wrong.
      def apply_template(source, filename: nil, strict: nil, replace_unused: nil)
        request("template.apply", { source: source, filename: filename, strict: strict, replace_unused: replace_unused })
      end

      # @return [Hash] `ok` and `findings` for a template, without registering it
      def validate_template(source, filename: nil, strict: nil)
        request("template.validate", { source: source, filename: filename, strict: strict })
      end

      def list_templates(namespace: nil)
        request("template.list", { namespace: namespace })["templates"] || []
      end

      # A template with its definition; the newest version unless one is named.
      def get_template(name, namespace: "default", version: nil)
        request("template.get", { name: name, namespace: namespace, version: version })
      end

      # -- looking around --------------------------------------------------------------------------

      # Whether the daemon has its database; ConnectionLostError if there is no daemon.
      # @return [Types::ClientHealthResponse]
      def health_check
        Types::ClientHealthResponse.from_wire(server_info)
      end

      def server_info
        request("server.info")
      end

      def list_workers
        request("worker.list")["workers"] || []
      end

      def list_nodes
        request("node.list")["nodes"] || []
      end

      def list_queues
        request("queue.list")["queues"] || []
      end

      def doctor
        request("doctor")
      end

      # @return [Float] seconds for a round trip
      def ping
        started = Transport.now
        request("ping")
        Transport.now - started
      end

      # @api private
      def attach(watch)
        @watch_lock.synchronize { (@watches[watch.task_uuid] ||= []) << watch }
      end

      # @api private
      def detach(watch)
        last = @watch_lock.synchronize do
          others = (@watches[watch.task_uuid] || []) - [watch]
          others.empty? ? @watches.delete(watch.task_uuid) : @watches[watch.task_uuid] = others
          others.empty?
        end
        channel = @channel
        return unless last && watch.task && !watch.finished? && channel && !channel.closed?

        channel.forget(channel.send("task.unwatch", { "task_uuid" => watch.task_uuid }))
      rescue DaemonError
        nil
      end

      private

      def ask(method, params, deadline)
        channel = open(deadline)
        pending = channel.send(method, params)
        pending.wait(deadline - Transport.now)
      rescue RequestTimeoutError
        channel&.forget(pending) if pending
        raise RequestTimeoutError, "no answer to #{method} in time"
      rescue ShuttingDownError
        set_aside(channel)
        raise
      end

      def open(deadline)
        after_fork if @pid != ::Process.pid
        @lock.synchronize do
          raise ConnectionLostError, "the client is closed" if @closed
          return @channel if @channel && !@channel.closed?

          deadline = [deadline, Transport.now + @connect_timeout].min if @connect_timeout
          @channel = reach(deadline)
        end
      end

      def reach(deadline)
        backoff = Transport::Backoff.new
        begin
          Channel.new(@socket) { |method, params| told(method, params) }
        rescue DaemonError => e
          delay = backoff.next(e.retry_after)
          raise if !e.retryable? || Transport.now + delay >= deadline

          sleep(delay)
          retry
        end
      end

      # The connection, the locks and the watches of the parent are of no use in a child.
      def after_fork
        @pid = ::Process.pid
        @lock = Mutex.new
        @watch_lock = Mutex.new
        @watches = {}
        @channel = nil
      end

      # The daemon is stopping: the next request gets a new connection, those under way their answers.
      def set_aside(channel)
        @lock.synchronize { @channel = nil if @channel.equal?(channel) }
      end

      def told(method, params)
        if method.nil? then @watch_lock.synchronize { @watches.values.flatten }.each(&:lost)
        elsif method == "task.event"
          @watch_lock.synchronize { @watches[params["task_uuid"]].to_a.dup }.each { |watch| watch.put(params["events"] || []) }
        end
      end

      def finish_chunk(bulk, chunk, channel, pending, timeout)
        bulk.settle(chunk, pending.wait(timeout))
      rescue ConnectionLostError, ShuttingDownError => e
        set_aside(channel) if e.is_a?(ShuttingDownError)
        unsure?(e, chunk) ? bulk.settle_error(chunk, e) : repeat_chunk(bulk, chunk, timeout)
      rescue DaemonError => e
        channel.forget(pending)
        bulk.settle_error(chunk, e)
      end

      # Send a chunk (again), alone, until its time is up.
      def repeat_chunk(bulk, chunk, timeout)
        deadline = Transport.now + timeout
        backoff = Transport::Backoff.new
        loop do
          channel = nil
          channel = open(deadline)
          return bulk.settle(chunk, channel.send_bulk(chunk.items).wait(deadline - Transport.now))
        rescue ConnectionLostError, ShuttingDownError => e
          return bulk.settle_error(chunk, e) if unsure?(e, chunk) || Transport.now >= deadline || @connect_timeout&.zero?

          set_aside(channel) if channel && e.is_a?(ShuttingDownError)
          sleep([backoff.next, [deadline - Transport.now, 0.0].max].min)
        rescue DaemonError => e
          return bulk.settle_error(chunk, e)
        end
      end

      def unsure?(error, chunk)
        error.is_a?(ConnectionLostError) && error.sent? && !chunk.repeatable
      end
    end
  end
end
