# frozen_string_literal: true

require_relative "support"
require "open3"
require "taskerd/testing"

# Against a real taskerd with a database of its own.
class TestDaemon < Minitest::Test
  include Support

  ENV["TASKERD_PROGRAM"] ||= File.join(ENV["TASKERD_BUILD"] || File.join(ROOT, "build"), "daemon", "taskerd")
  FILES = File.expand_path("handlers", __dir__)
  BATCH = "Taskerd::BatchProcessing::StepHandlers"

  def daemon
    skip "there is no taskerd; set TASKERD_BUILD" unless File.executable?(ENV["TASKERD_PROGRAM"])
    Taskerd::Testing::EmbeddedTaskerd.shared
  end

  def template(name, steps)
    { name: name, namespace_name: "ruby", version: "1.0.0", steps: steps.map { |s| { retry: { max_attempts: 3, backoff: "none" }, **s } } }
  end

  def step_of(name, callable, *parents, **more)
    { name: name, handler: { callable: callable, **more.delete(:handler).to_h }, dependencies: parents, **more }
  end

  # A process with the command line; ended by `stop`.
  def command(*arguments, env: {})
    log = File.join(dir, "log-#{rand(1 << 32)}")
    environment = { "TASKERD_SOCKET" => nil, "TASKER_NAMESPACE" => nil, "TASKER_TEMPLATE_PATH" => nil, "RUBY_HANDLER_PATH" => nil, **env }
    pid = Process.spawn(environment, RbConfig.ruby, "-w", EXE, *arguments, in: File::NULL, %i[out err] => log)
    (@pids ||= []) << pid
    [pid, log]
  end

  def dir
    @dir ||= Dir.mktmpdir("taskerd-ruby-")
  end

  def stop(pid, signal = "TERM")
    Process.kill(signal, pid)
    ended(pid)
  end

  def ended(pid)
    found = nil
    eventually("the end of the process") { found = Process.wait2(pid, Process::WNOHANG) }
    @pids.delete(pid)
    found[1]
  end

  def teardown
    (@pids || []).each { |pid| stop(pid, "KILL") }
    FileUtils.rm_rf(@dir) if @dir
  end

  def log_says(log, text)
    eventually("#{text.inspect} in the log") { File.read(log).include?(text) }
  end

  def file(name, text)
    path = File.join(dir, name)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
    path
  end

  # -- workflows ---------------------------------------------------------------------------------

  def test_a_workflow_of_classes
    steps = [step_of("validate_cart", "Shop::StepHandlers::ValidateCartHandler", handler: { initialization: { currency: "EUR" } }),
             step_of("charge", "Shop::StepHandlers::ChargeHandler", "validate_cart"),
             step_of("refund", "Shop::StepHandlers::ChargeHandler", "charge", handler: { method: "refund" })]
    task = daemon.run(template("classes", steps), { items: [{ price: 2, quantity: 3 }], amount: 6 }, handlers: [FILES])
    assert_equal 6, task.step("validate_cart").results["total"]
    assert_equal({ "charged" => 6, "gateway" => "test", "attempt" => 1, "step" => "charge", "total_again" => 6 }, task.step("charge").results)
    assert_equal({ "refunded" => 6 }, task.step("refund").results)
    assert_match(/validating 1 items of task #{task.task_uuid} .*TASKER_STEP=#{task.step("validate_cart").step_uuid}/, File.read(daemon.log_path))
  end

  def test_a_workflow_of_blocks_with_a_decision
    steps = [step_of("load_cart", "blocks.load_cart"), step_of("approve", "blocks.approve", "load_cart", type: "decision"),
             step_of("manager", "blocks.charge", "approve"), step_of("finance", "blocks.charge", "approve"), step_of("other", "blocks.charge", "approve")]
    task = daemon.run(template("blocks", steps), { cart_id: 1, items: [{ price: 5 }], amount: 500, token: "t" }, handlers: [FILES])
    assert_equal %w[approve finance load_cart manager], task.steps.map(&:name).sort
    assert_equal({ "sum" => 5, "token" => "t", "twice" => 10 }, task.step("manager").results)
  end

  # Its traps and its environment harm it alone.
  def test_a_handler_file_that_takes_over_the_process
    place = file("takes.rb", <<~RUBY)
      require "taskerd"
      ENV.update("TASKERD_SOCKET" => "/nowhere", "TASKER_NAMESPACE" => "other", "TASKER_TEMPLATE_PATH" => "/nowhere")
      trap("TERM", "IGNORE")
      class Takes < Taskerd::StepHandler::Base
        def call(_)
          trap("TERM") { exit!(9) }
          Signal.trap(15, "IGNORE")
          success(result: { found: Process.kill(0, Process.pid) })
        end
      end
    RUBY
    pid, log = command("worker", place, env: { "TASKERD_SOCKET" => daemon.socket })
    task = daemon.run(template("takes", [step_of("takes", "Takes")]), {})
    assert_equal({ "found" => 1 }, task.step("takes").results)
    assert_equal 0, stop(pid).exitstatus
    assert_match(/a handler traps TERM: that is left out/, File.read(log))
  end

  def test_a_batch
    steps = [step_of("count", "#{BATCH}::CountRows", type: "batchable"),
             step_of("work", "#{BATCH}::WorkRows", "count", type: "batch_worker", batch_config: { batch_size: 10 }),
             step_of("sum", "#{BATCH}::SumRows", "work", type: "deferred_convergence")]
    task = daemon.run(template("batch", steps), { rows: 9 }, handlers: [FILES])
    assert_equal({ "total" => 9, "worker_count" => 2, "scenario" => "with_batches" }, task.step("sum").results)
    assert_equal [1, 1], (%w[work_001 work_002].map { |name| task.step(name).attempts })
    none = daemon.run(template("batch", steps), { rows: 0 }, handlers: [FILES])
    assert_equal({ "total" => 0, "worker_count" => 0, "scenario" => "no_batches" }, none.step("sum").results)
  end

  def test_failures_and_retries
    again = Class.new(Taskerd::StepHandler::Base) do
      def handler_name = "again"
      def call(context) = context.is_last_retry? ? { tries: context.attempt } : raise(Taskerd::Errors::RetryableError.new("not yet", retry_after: 0))
    end
    final = Class.new(Taskerd::StepHandler::Base) do
      def handler_name = "final"
      def call(_) = raise(Taskerd::Errors::PermanentError.new("never", error_code: "NO", context: { a: 1 }))
    end
    steps = [step_of("again", "again"), step_of("final", "final", "again")]
    failed = assert_raises(Taskerd::Testing::TaskFailed) { daemon.run(template("failures", steps), handlers: [again, final]) }
    assert_includes failed.message, "final: never"
    assert_equal({ "tries" => 3 }, failed.task.step("again").results)
    error = failed.task.step("final").error
    assert_equal ["never", "PermanentError", "NO", { "a" => 1 }], error.values_at("message", "error_type", "error_code", "context")
    assert_equal 1, failed.task.step("final").attempts
    history = daemon.client.get_step_audit_history(failed.task.task_uuid, "again")
    assert_equal [false, false, true], history.map(&:success)
    assert_equal 3, history.map(&:audit_uuid).compact.uniq.size
    assert_equal failed.task.created_at, failed.task.step("final").created_at
    assert_operator failed.task.step("final").updated_at, :>=, failed.task.step("again").updated_at
    assert_equal 1, daemon.client.list_tasks(name: "failures").pagination[:total_count]
  end

  def test_resolvers_of_ones_own
    resolver = Class.new(Taskerd::Registry::Resolvers::RegistryResolver) do
      resolver_name "pay"
      handles_prefix "pay:"
      def resolve_handler(definition, _config)
        Class.new(Taskerd::StepHandler::Base) { define_method(:call) { |_| { by: definition.callable, config: config[:a] } } }
      end
    end
    registry = Taskerd::Registry::HandlerRegistry.new
    registry.add_resolver(resolver)
    steps = [step_of("a", "pay:card", handler: { resolver: "pay", initialization: { a: 1 } }), step_of("b", "pay:cash", "a")]
    steps << step_of("c", "pay:none", "b", handler: { resolver: "not_here" })
    daemon.apply(template("resolved", steps))
    daemon.worker([], registry: registry) do
      task = daemon.client.create_task(name: "resolved", namespace: "ruby")
      done = daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE)
      assert_equal [{ "by" => "pay:card", "config" => 1 }, { "by" => "pay:cash", "config" => nil }, nil], done.steps.sort_by(&:name).map(&:results)
      refused = done.step("c")
      assert_match(/not_here/, refused.error["message"])
      assert_equal 1, refused.attempts
      %w[late later].each do |name|
        daemon.apply(template(name, [step_of("one", "pay:#{name}")]))
        task = daemon.client.create_task(name: name, namespace: "ruby")
        assert_equal({ "by" => "pay:#{name}", "config" => nil }, daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE).step("one").results)
      end
    end
  end

  def test_a_killed_daemon_and_results_that_are_recorded_once
    Taskerd::Testing::EmbeddedTaskerd.start do |own|
      go = Queue.new
      started = Queue.new
      slow = Class.new(Taskerd::StepHandler::Base) do
        define_method(:handler_name) { "slow" }
        define_method(:call) { |_| started << 1; go.pop; { ran: started.size } }
      end
      own.apply(template("slow", [step_of("a", "slow")]))
      own.worker([slow]) do
        task = own.client.create_task(name: "slow", namespace: "ruby")
        started.pop
        own.kill
        go << 1
        own.launch
        assert_equal({ "ran" => 0 }, own.client.wait_for_task(task.task_uuid, timeout: PATIENCE).step("a").results)
      end
    end
  end

  # -- events ------------------------------------------------------------------------------------

  def test_events_with_a_publisher_and_a_subscriber
    publisher = Class.new(Taskerd::DomainEvents::BasePublisher) do
      def name = "ruby.pub"
      def should_publish?(step_result, _declaration, _context = nil) = step_result[:result][:amount].positive?
      def transform_payload(step_result, declaration, context = nil) = { sum: step_result[:result]["amount"], name: declaration[:name], step: context[:step_name] }
      def additional_metadata(*) = { note: "n" }
    end
    seen = Queue.new
    subscriber = Class.new(Taskerd::DomainEvents::BaseSubscriber) do
      subscribes_to "ruby.*"
      define_method(:handle) { |event| seen << event }
    end
    Taskerd::DomainEvents::PublisherRegistry.instance.register(publisher)
    poller = Taskerd::DomainEvents::Poller.new(socket: daemon.socket)
    subscriber.new.start!(poller)
    poller.start(connect_timeout: PATIENCE)
    paid = Class.new(Taskerd::StepHandler::Base) do
      def handler_name = "paid"
      def call(context) = { amount: context.get_input(:amount) }
    end
    events = [{ name: "ruby.paid", publisher: "ruby.pub", delivery_mode: "broadcast", schema: { type: "object" } }]
    done = [7, -1, 8].map { |amount| daemon.run(template("events", [step_of("pay", "paid", publishes_events: events)]), { amount: amount }, handlers: [paid]) }
    found = [seen.pop, seen.pop]
    assert_equal [7, 8], (found.map { |e| e[:business_payload][:sum] })
    first = found.first
    assert_equal ["ruby.paid", "ruby.paid", "pay", 7], [first["event_name"], first[:business_payload]["name"], first[:metadata][:step_name], first[:payload][:sum]]
    assert_equal [done.first.task_uuid, "n", "ruby.pub"], first[:metadata].values_at(:task_uuid, :note, :fired_by)
    assert_equal true, first[:execution_result][:success]
    durable = daemon.client.consume_events("ruby", limit: 10, wait: 5)
    assert_equal [7, 8], (durable.map { |m| m["event"]["payload"]["payload"]["sum"] })
    assert_equal 2, daemon.client.ack_events(durable, "ruby")["done"]
  ensure
    poller&.stop
    Taskerd::DomainEvents::PublisherRegistry.instance.reset
  end

  def test_events_that_a_client_publishes
    daemon.run(template("any", [step_of("a", "any")]), handlers: [Class.new(Taskerd::StepHandler::Base) { def handler_name = "any"; def call(_) = {} }])
    stream = daemon.client.subscribe_events("client.*")
    daemon.client.publish_event("client.said", { a: 1 }, namespace: "ruby", delivery_mode: "fast")
    assert_equal({ "a" => 1 }, stream.next(PATIENCE).business_payload.to_h)
  ensure
    stream&.close
  end

  # -- the client --------------------------------------------------------------------------------

  def test_the_client
    daemon.apply(template("client", [step_of("a", "nobody.does.this")]))
    client = daemon.client
    task = client.create_task(name: "client", namespace: "ruby", context: { at: Time.utc(2026) }, tags: %w[x], idempotency_key: "k1")
    again = client.create_task(name: "client", namespace: "ruby", context: { at: Time.utc(2026) }, tags: %w[x], idempotency_key: "k1")
    assert_equal [task.task_uuid, false], [again.task_uuid, again.created]
    assert_includes client.list_tasks(namespace: "ruby", name: "client").tasks.map(&:task_uuid), task.task_uuid
    assert_equal ["a"], client.list_task_steps(task.task_uuid).map(&:name)
    assert_equal "enqueued", client.get_step(task.task_uuid, "a").current_state
    assert_raises(Taskerd::Client::NotFoundError) { client.get_step(task.task_uuid, "b") }
    refute client.wait(task.task_uuid, 0).settled?
    states = Queue.new
    watcher = Thread.new { client.watch(task.task_uuid) { |event| states << event["state"] } }
    states.pop
    assert_equal true, client.cancel_task(task.task_uuid, reason: "test")[:cancelled]
    watcher.join(PATIENCE)
    assert_equal "cancelled", [].tap { |all| all << states.pop until states.empty? }.last
    error = assert_raises(Taskerd::Client::ConflictError) { client.cancel_task(task.task_uuid) }
    assert_equal ["conflict", false], [error.code, error.retryable?]
    assert_operator client.ping, :<, PATIENCE
    assert client.health_check.healthy
    assert_equal [true], client.validate_template(JSON.generate(template("x", [step_of("a", "b")]))).values_at("ok")
    broken = assert_raises(Taskerd::Client::InvalidTemplateError) { client.apply_template("name: [", filename: "t.yaml") }
    assert_match(/t.yaml:\d+/, broken.message)
    assert_raises(Taskerd::Client::InvalidValueError) { client.create_task(name: "client", namespace: "ruby", context: { a: Float::NAN }) }
  end

  def test_many_tasks_at_once
    daemon.apply(template("many", [step_of("a", "nobody.does.this")]))
    tasks = (1..2500).map { |n| { name: n == 7 ? "gone" : "many", namespace: "ruby", context: n == 9 ? { n: Float::NAN } : { n: n } } }
    outcomes = daemon.client.create_tasks(tasks)
    assert_equal [2500, 2498], [outcomes.size, outcomes.count(&:ok?)]
    assert_kind_of Taskerd::Client::TemplateNotFoundError, outcomes[6].error
    assert_kind_of Taskerd::Client::InvalidValueError, outcomes[8].error
  end

  def test_a_client_after_a_fork
    daemon.client.ping
    reader, writer = IO.pipe
    pid = fork do
      writer.write(daemon.client.ping.positive? ? "y" : "n")
      exit!(0)
    end
    writer.close
    assert_equal "y", reader.read
    Process.wait(pid)
    assert daemon.client.ping
  end

  # -- the command line --------------------------------------------------------------------------

  def test_a_worker_of_the_command_line
    templates = file("templates/t.yaml", JSON.generate(template("cli", [step_of("a", "cli.a")]).merge(colour: "red")))
    file("handlers/good.rb", "Good = Taskerd::StepHandler::Functional.step_handler('cli.a') { |context:| { n: context.get_input(:n) } }")
    broken = file("handlers/broken.rb", "\n\nraise 'on purpose'\n")
    syntax = file("handlers/syntax.rb", "def (\n")
    pid, log = command("worker", File.join(dir, "handlers"), "--templates", File.dirname(templates), "--socket", daemon.socket, "--name", "cli-worker")
    log_says(log, "connected to")
    assert_includes File.read(log), "#{broken}:3: RuntimeError: on purpose"
    assert_match(/#{syntax}:\d+: SyntaxError/, File.read(log))
    assert_match(/WARN .*template #{templates}:1:\d+: warning: colour: unknown key/, File.read(log))
    task = daemon.client.create_task(name: "cli", namespace: "ruby", context: { n: 7 })
    assert_equal({ "n" => 7 }, daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE).step("a").results)
    shown = daemon.client.list_workers.find { |w| w["name"] == "cli-worker" }
    assert_equal [%w[Good cli.a], "ruby"], shown.values_at("handlers", "language")
    Process.kill("USR1", pid)
    log_says(log, "status: ")
    assert_equal 0, stop(pid).exitstatus, File.read(log)
    step = daemon.client.get_step(task.task_uuid, "a")
    replayed, said, status = Open3.capture3({ "RUBY_HANDLER_PATH" => File.join(dir, "handlers") }, RbConfig.ruby, EXE, "replay", step.step_uuid, "--socket", daemon.socket)
    assert status.success?, said
    assert_equal [true, { "success" => true, "result" => { "n" => 7 } }], JSON.parse(replayed).values_at("same", "replayed")
  end

  def test_several_processes_and_one_that_dies
    handlers = file("h.rb", <<~RUBY)
      Dies = Taskerd::StepHandler::Functional.step_handler("dies") { |context:| context.attempt == 1 ? Process.kill("KILL", Process.pid) : { pid: Process.pid } }
    RUBY
    daemon.apply(template("dies", [step_of("a", "dies")]))
    pid, log = command("worker", handlers, "--socket", daemon.socket, "--processes", "2", "--name", "twins")
    eventually { daemon.client.list_workers.count { |w| w["name"].start_with?("twins.") } == 2 }
    task = daemon.client.create_task(name: "dies", namespace: "ruby")
    done = daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE)
    assert_equal ["complete", 2], [done.status, done.step("a").attempts]
    log_says(log, "by signal 9")
    assert_equal 0, stop(pid).exitstatus, File.read(log)
  end

  # By a service manager, which tells all processes, and by its parent: that is once, and what runs is finished.
  def test_one_of_several_processes_that_is_told_twice_to_stop
    handlers = file("held.rb", <<~RUBY)
      Held = Taskerd::StepHandler::Functional.step_handler("held") { |context:| sleep(0.005) until File.exist?(context.get_input("gate")); {} }
    RUBY
    daemon.apply(template("held", [step_of("a", "held")]))
    pid, log = command("worker", handlers, "--socket", daemon.socket, "--processes", "2", "--name", "told")
    ours = -> { daemon.client.list_workers.select { |w| w["name"].start_with?("told.") } }
    eventually { ours.call.size == 2 }
    task = daemon.client.create_task(name: "held", namespace: "ruby", context: { gate: gate = File.join(dir, "gate") })
    eventually { daemon.client.get_task(task.task_uuid).step("a").state == "in_progress" }
    busy = ours.call.find { |w| w["open"] == 1 }["pid"]
    Process.kill("TERM", busy)
    eventually { ours.call.any? { |w| w["pid"] == busy && w["draining"] } }
    Process.kill("TERM", pid)
    eventually { ours.call.map { |w| w["pid"] } == [busy] }
    File.write(gate, "")
    assert_equal 0, ended(pid).exitstatus, File.read(log)
    assert_equal ["complete", 1], daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE).then { |done| [done.status, done.step("a").attempts] }
  end

  # Ruby loses a signal that comes while it starts: what tells a process to drain is its lifeline.
  def test_processes_that_are_deaf_to_signals_end
    child = file("child.rb", <<~RUBY)
      trap("TERM", "IGNORE")
      require "socket"
      lifeline = UNIXSocket.for_fd(Integer(ENV.fetch("TASKERD_WORKER_LIFELINE")))
      File.write(File.join(__dir__, "up"), "x", mode: "a")
      lifeline.read
    RUBY
    parent = 'require "taskerd"; exit Taskerd::Worker::Supervisor.new([RbConfig.ruby, "--disable-gems", ARGV[0]], 2, "deaf").run'
    pid = Process.spawn(RbConfig.ruby, "-I", LIB, "-e", parent, child, in: File::NULL)
    (@pids ||= []) << pid
    eventually("two children") { File.size?(File.join(dir, "up")) == 2 }
    assert_equal 0, stop(pid).exitstatus
  end

  def test_a_signal_while_processes_are_started
    child = file("child.rb", 'trap("TERM", "IGNORE"); require "socket"; UNIXSocket.for_fd(Integer(ENV.fetch("TASKERD_WORKER_LIFELINE"))).read')
    parent = <<~'RUBY'
      require "taskerd"
      starting = TracePoint.new(:c_return) { |at| Process.kill("TERM", Process.pid) && starting.disable if at.method_id == :spawn }
      starting.enable
      exit Taskerd::Worker::Supervisor.new([RbConfig.ruby, "--disable-gems", ARGV[0]], 3, "early").run
    RUBY
    pid = Process.spawn(RbConfig.ruby, "-I", LIB, "-e", parent, child, in: File::NULL)
    (@pids ||= []) << pid
    assert_equal 0, ended(pid).exitstatus
  end

  def test_bad_command_lines
    { %w[worker] => "name at least one PLACE", %w[worker x --threads 0] => "--threads needs a number", %w[worker x --what] => "no option --what", %w[replay] => "name a STEP",
      %w[worker x --log-level loud] => "--log-level must be one of", %w[fly] => "usage:" }.each do |arguments, said|
      _, err, status = Open3.capture3({ "RUBY_HANDLER_PATH" => nil }, RbConfig.ruby, EXE, *arguments)
      assert_equal 2, status.exitstatus
      assert_includes err, said
    end
    _, err, status = Open3.capture3(RbConfig.ruby, EXE, "worker", File.join(dir, "nowhere.rb"), "--socket", "/nowhere")
    assert_equal [1, true], [status.exitstatus, err.include?("nowhere.rb")], err
    out, = Open3.capture3(RbConfig.ruby, EXE, "worker", "--help")
    Taskerd::CLI::OPTIONS["worker"].each_key { |option| assert_includes out, option }
  end

  def test_a_worker_waits_for_the_daemon_and_says_so
    handlers = file("h.rb", "A = Taskerd::StepHandler::Functional.step_handler('a') { {} }")
    pid, log = command("worker", handlers, "--socket", File.join(dir, "absent"))
    log_says(log, "cannot reach taskerd at #{File.join(dir, "absent")}: no socket is there: taskerd is not running, or listens elsewhere")
    server = UNIXServer.new(File.join(dir, "absent"))
    conn = Conn.new(server.accept)
    conn.hello
    assert_equal 1, File.read(log).scan("cannot reach").size
    Process.kill("TERM", pid)
    conn.expect("worker.update")
    conn.expect("goodbye")
    assert_equal 0, ended(pid).exitstatus
  end

  def test_a_socket_that_this_user_may_not_open
    skip "only root can become another user" unless Process.uid.zero?
    Dir.mktmpdir("taskerd-ruby-") do |open|
      File.chmod(0o755, open)
      path = File.join(open, "s")
      server = UNIXServer.new(path)
      File.chmod(0o600, path)
      reader, writer = IO.pipe
      pid = fork do
        Process::Sys.setgid(65_534)
        Process::Sys.setuid(65_534)
        Taskerd::Client.new(socket: path, connect_timeout: 0).ping
      rescue Taskerd::DaemonError => e
        writer.write(e.message)
      ensure
        exit!(0)
      end
      writer.close
      assert_match(/permission denied: .* is for user root and group root, this process is user nobody/, reader.read)
      Process.wait(pid)
      server.close
    end
  end

  def test_the_bootstrap_of_an_application
    handlers = file("app/handlers/boot_handler.rb", "class BootHandler < Taskerd::StepHandler::Base\n  def call(_) = { booted: true }\nend\n")
    file("config/tasks/t.yaml", JSON.generate(template("boot", [step_of("a", "BootHandler")])))
    daemon.apply(File.join(dir, "config/tasks/t.yaml"))
    script = file("server.rb", <<~RUBY)
      require "taskerd"
      Taskerd::Worker::Bootstrap.instance.on_shutdown { puts "said early" }
      bootstrap = Taskerd::Worker::Bootstrap.start!
      bootstrap.on_shutdown { puts "bye" }
      puts bootstrap.health_check[:status]
      $stdout.flush
      sleep 0.05 while bootstrap.running?
      sleep 0.05 until bootstrap.instance_variable_get(:@at_shutdown).empty?
    RUBY
    log = File.join(dir, "boot.log")
    pid = Process.spawn({ "TASKERD_SOCKET" => daemon.socket, "WORKSPACE_PATH" => dir }, RbConfig.ruby, "-w", "-I", LIB, script, in: File::NULL, %i[out err] => log, chdir: dir)
    @pids = [pid]
    log_says(log, "healthy")
    task = daemon.client.create_task(name: "boot", namespace: "ruby")
    assert_equal({ "booted" => true }, daemon.client.wait_for_task(task.task_uuid, timeout: PATIENCE).step("a").results)
    assert_equal 0, stop(pid).exitstatus, File.read(log)
    assert_includes File.read(log), "said early\nbye"
    assert File.exist?(handlers)
  end
end
