# frozen_string_literal: true

require_relative "support"

# A worker's session, against a daemon that the tests play.
class TestWorker < Support::Case
  def test_the_handshake_and_a_step
    worker, conn = worker({ "a" => handler { |context| { got: context.get_input(:n) } } }, namespaces: ["x"], prefetch: 3)
    assert_equal [1, 0], @hello["protocol"]
    assert_equal "ruby", @hello["language"]
    assert_equal({ "name" => "test", "namespaces" => ["x"], "handlers" => ["a"], "max_concurrency" => 5 }, @hello["worker"])
    conn.execute(step("a", 1, "context" => { "n" => 7 }))
    result = conn.results.first
    assert_equal [true, { "got" => 7 }, 1], result.values_at("success", "result", "attempt")
    assert_equal [0, 1].pack("Q>Q>"), result["claim"]
    conn.acknowledge(result)
    eventually { worker.status[:counters][:recorded] == 1 }
    assert_equal 0, worker.status[:unacknowledged]
    assert worker.running?
  end

  def test_results_that_become_ready_together_leave_in_one_frame
    _, conn = worker({ "a" => handler { |_| {} } }, threads: 1, prefetch: 100)
    conn.execute(*(1..40).map { |n| step("a", n) })
    frames = 0
    found = []
    until found.size == 40
      found.concat(conn.expect("step.result")["results"])
      frames += 1
    end
    assert_operator frames, :<, 20
    assert_equal (1..40).to_a, found.map { |r| r["step_uuid"][-3..].to_i }.sort
  end

  def test_handlers_run_at_the_same_time
    inside = Queue.new
    go = Queue.new
    _, conn = worker({ "a" => handler { |_| inside << 1; go.pop; {} } }, threads: 3, prefetch: 0)
    conn.execute(step("a", 1), step("a", 2), step("a", 3))
    3.times { inside.pop }
    3.times { go << 1 }
    assert_equal 3, conn.results(3).size
  end

  def test_a_result_does_not_wait_for_a_long_handler_behind_it
    go = Queue.new
    _, conn = worker({ "short" => handler { |_| {} }, "long" => handler { |_| go.pop; {} } }, threads: 1, prefetch: 5)
    conn.execute(step("short", 1), step("long", 2))
    assert_equal 1, conn.results.first["step_uuid"][-1].to_i
    go << 1
    conn.results
  end

  def test_a_lost_connection_is_resumed_and_the_result_sent_again
    go = Queue.new
    worker, conn = worker({ "a" => handler { |_| {} }, "slow" => handler { |_| go.pop; { done: true } } })
    conn.execute(step("a", 1), step("slow", 2))
    first = conn.results.first
    conn.close
    conn = accept
    hello = conn.hello
    assert_equal({ "session" => "token-1", "held" => 2 }, hello["resume"])
    id, params = conn.expect("session.resume")
    assert_equal %w[1 2], params["steps"].map { |s| s["step_uuid"][-1] }.sort
    conn.answer(id, { "steps" => params["steps"].map { |s| { **s.slice("step_uuid", "attempt"), "status" => "held" } } })
    assert_equal first, conn.results.first
    go << 1
    assert_equal({ "done" => true }, conn.results.first["result"])
    assert_equal 1, worker.status[:counters][:reconnects]
  end

  def test_what_went_to_others_is_dropped
    started = Queue.new
    _, conn = worker({ "a" => handler { |context| started << 1; context.sleep(Support::PATIENCE); { reason: context.cancel_reason } } })
    conn.execute(step("a"))
    started.pop
    conn.close
    conn = accept
    conn.hello
    id, params = conn.expect("session.resume")
    conn.answer(id, { "steps" => [{ **params["steps"][0].slice("step_uuid", "attempt"), "status" => "stale" }] })
    conn.execute(step("a", 1, "attempt" => 2))
    started.pop
    conn.send([2, "step.cancel", { "step_uuid" => step("a")["step_uuid"], "attempt" => 2, "reason" => "timeout" }])
    result = conn.results.first
    assert_equal [2, { "reason" => "timeout" }], result.values_at("attempt", "result")
  end

  def test_a_failure_without_words
    unspeakable = Class.new(StandardError) { def message = raise("no words") }
    failures = [->(_) { Taskerd::Types::StepHandlerCallResult.error(error_type: "UnexpectedError", message: "") }, ->(_) { raise unspeakable }]
    _, conn = worker({ "a" => handler { |context| failures[context.get_input("n")].call(nil) } })
    failures.each_index do |n|
      conn.execute(step("a", n + 1, "context" => { "n" => n }))
      assert_equal "the step failed", conn.results.first["error"]["message"]
    end
  end

  def test_the_same_attempt_with_another_claim_is_a_new_delivery
    runs = Queue.new
    _, conn = worker({ "a" => handler { |_| runs << 1; {} } })
    conn.execute(step("a"))
    first = conn.results.first
    conn.execute(step("a"), step("a", 1, "claim" => "x" * 16))
    second = conn.results.first
    refute_equal first["claim"], second["claim"]
    conn.acknowledge(first)
    conn.acknowledge(second)
    assert_equal 2, runs.size
  end

  def test_draining_finishes_what_runs_and_gives_back_the_rest
    go = Queue.new
    started = Queue.new
    worker, conn = worker({ "a" => handler { |_| started << 1; go.pop; {} } }, threads: 1, prefetch: 5)
    conn.execute(step("a", 1), step("a", 2))
    started.pop
    worker.drain
    assert_equal({ "draining" => true }, conn.expect("worker.update"))
    go << 1
    result = conn.results.first
    conn.acknowledge(result)
    conn.expect("goodbye")
    conn.expect_end
    assert worker.wait(Support::PATIENCE)
    assert_nil worker.failure
    assert_equal 1, worker.status[:counters][:released]
  end

  def test_a_drain_without_a_connection_delivers_first
    worker, conn = worker({ "a" => handler { |_| {} } })
    conn.execute(step("a"))
    result = conn.results.first
    conn.close
    worker.drain
    conn = accept
    conn.hello
    id, params = conn.expect("session.resume")
    conn.answer(id, { "steps" => params["steps"].map { |s| { **s.slice("step_uuid", "attempt"), "status" => "stale" } } })
    assert_equal [result], conn.results
    conn.acknowledge(result)
    loop { break if (conn.recv || flunk("no goodbye"))[1] == "goodbye" }
    assert worker.wait(Support::PATIENCE)
  end

  def test_heartbeats
    _, conn = worker({ "a" => handler { |_| {} } }, hello: { heartbeat_ms: 150 })
    conn.recv_raw.then { |payload| assert_equal [2, "heartbeat", {}], MessagePack.unpack(payload) }
  end

  def test_a_handler_that_hangs_costs_only_its_own_attempt
    _, conn = worker({ "hangs" => handler { |_| Queue.new.pop }, "a" => handler { |_| {} } }, threads: 1, abandon_after: 0.02)
    conn.execute(step("hangs", 1), step("a", 2))
    conn.send([2, "step.cancel", { "step_uuid" => step("a")["step_uuid"], "attempt" => 1, "reason" => "timeout" }])
    found = conn.results(2)
    assert_equal "cancelled", found.find { |r| r["step_uuid"][-1] == "1" }.dig("error", "error_type")
    assert(found.find { |r| r["step_uuid"][-1] == "2" }["success"])
  end

  def test_a_handler_that_ends_its_thread_costs_only_its_own_attempt
    handlers = { "exit" => handler { |_| Thread.current.exit }, "kernel" => handler { |_| exit(3) }, "throw" => handler { |_| throw :x },
                 "deep" => handler { |c| f = ->(n) { f.(n + 1) }; f.(c.attempt) }, "a" => handler { |_| {} } }
    _, conn = worker(handlers, threads: 1)
    %w[exit kernel throw deep].each_with_index do |name, i|
      conn.execute(step(name, i + 1))
      result = conn.results.first
      assert_equal [false, true], [result["success"], result.dig("error", "retryable")], name
    end
    conn.execute(step("a", 9))
    assert conn.results.first["success"]
  end

  def test_checkpoints_logs_progress_and_dependencies
    handler = handler do |context|
      context.save_checkpoint(5, items_processed: 5)
      context.log(:warn, "half", at: 5)
      context.heartbeat({ done: 0.5 })
      { all: context.get_dependency_result("big"), small: context.get_dependency_field("small", "a", 0), keys: context.dependency_results.keys.sort }
    end
    _, conn = worker({ "a" => handler })
    conn.execute(step("a", 1, "dependencies" => { "small" => { "a" => [3] } }, "dependencies_partial" => true))
    id, params = conn.expect("step.checkpoint")
    assert_equal [5, 5, 1], params.values_at("cursor", "items_processed", "attempt")
    conn.answer(id, { "status" => "recorded" })
    log = conn.expect("step.log")
    assert_equal ["warn", "half", { "at" => "5" }], log.values_at("level", "message", "fields")
    assert_equal({ "done" => 0.5 }, conn.expect("step.heartbeat")["progress"])
    id, = conn.expect("step.dependencies")
    conn.answer(id, { "dependencies" => { "big" => "B" }, "next_cursor" => "n" })
    id, params = conn.expect("step.dependencies")
    assert_equal "n", params["cursor"]
    conn.answer(id, { "dependencies" => { "other" => 1 } })
    assert_equal({ "all" => "B", "small" => 3, "keys" => %w[big other small] }, conn.results.first["result"])
  end

  def test_a_checkpoint_that_does_not_count_ends_the_handler
    _, conn = worker({ "a" => handler { |context| context.save_checkpoint(1); { never: true } } })
    { "stale" => true, "rejected" => false }.each_with_index do |(status, again), i|
      conn.execute(step("a", i + 1))
      id, = conn.expect("step.checkpoint")
      conn.answer(id, { "status" => status })
      assert_equal again, conn.results.first.dig("error", "retryable")
    end
  end

  def test_a_request_survives_a_lost_connection
    _, conn = worker({ "a" => handler { |context| context.save_checkpoint(1); { stored: true } } })
    conn.execute(step("a"))
    conn.expect("step.checkpoint")
    conn.close
    conn = accept
    conn.hello
    id, params = conn.expect("session.resume")
    conn.answer(id, { "steps" => params["steps"].map { |s| { **s.slice("step_uuid", "attempt"), "status" => "held" } } })
    id, = conn.expect("step.checkpoint")
    conn.answer(id, { "status" => "recorded" })
    assert conn.results.first["success"]
  end

  def test_lines_that_handlers_log_go_to_the_daemon
    handler = handler do |_|
      logger.debug("too low")
      logger.info("hello")
      Taskerd::Tracing.warn("odd", { order: 7 })
      {}
    end
    _, conn = worker({ "a" => handler }, log_level: "info")
    conn.execute(step("a"))
    found = [conn.expect("step.log"), conn.expect("step.log")]
    assert_equal [%w[info hello], %w[warn odd]], (found.map { |l| l.values_at("level", "message") })
    assert_equal({ "order" => "7" }, found[1]["fields"])
    assert_equal [step("a")["step_uuid"]], found.map { |l| l["step_uuid"] }.uniq
    conn.results
  ensure
    Taskerd::LogBridge.level = nil
  end

  def test_lines_are_written_without_the_clock_that_handlers_replace
    out = StringIO.new
    lines = Taskerd::Logger.new(out)
    real = Time.method(:now)
    begin
      Time.define_singleton_method(:now) { raise "no clock" }
      lines.info("still said")
    ensure
      Time.define_singleton_method(:now, real)
    end
    assert_match(/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO .*: still said$/, out.string)
  end

  def test_lines_of_other_loggers_and_of_an_application
    out = StringIO.new
    mine = Taskerd::LogBridge.attach(Logger.new(out, formatter: ->(severity, _, name, text) { "#{severity} #{name.inspect} #{text}\n" }))
    seen = []
    Taskerd::Worker.around_step = ->(context, &run) { seen << context.step_name; run.call }
    _, conn = worker({ "a" => handler { |_| mine.info("one"); mine.warn("prog") { "two" }; mine.debug("low"); {} } }, log_level: "info")
    mine.level = Logger::INFO
    conn.execute(step("a"))
    assert_equal [%w[info one], %w[warn two]], ([conn.expect("step.log"), conn.expect("step.log")].map { |l| l.values_at("level", "message") })
    assert conn.results.first["success"]
    mine.info("outside of a step")
    assert_equal "INFO nil one\nWARN \"prog\" two\nINFO nil outside of a step\n", out.string
    assert_equal ["s1"], seen
  ensure
    Taskerd::LogBridge.level = nil
    Taskerd::Worker.around_step = nil
  end

  def test_hostile_frames_end_the_connection_and_not_the_worker
    worker, conn = worker({ "a" => handler { |_| {} } })
    hostile.each_with_index do |bytes, i|
      conn.execute(step("a", i + 1))
      conn.acknowledge(conn.results.first) # the next connection comes soon after one that was good
      conn.write(bytes)
      conn.socket.close_write # some are only refused for what is missing behind them
      conn.expect_end
      conn = accept
      conn.hello
    end
    conn.execute(step("a"))
    assert conn.results.first["success"]
    assert worker.running?
  end

  # A few of each kind; all of them are read in test_codec.
  def hostile
    vectors = Support::Vectors.load("hostile").group_by { |v| v["refused_by"] }.slice("frame", "scan", "envelope")
    bytes = vectors.flat_map { |by, all| all.first(4).map { |v| by == "frame" ? Support::Vectors.bytes(v["hex"]) : frame_of(v) } }
    notes = ["step.execute", "result.ack", "step.cancel"].product([{}, { "steps" => 1, "acks" => 1 }, { "steps" => [{}], "acks" => [nil] }])
    bytes + notes.map { |method, params| Taskerd::Codec.frame(Taskerd::Codec.pack([2, method, params])) }
  end

  def frame_of(vector)
    Taskerd::Codec.frame(Support::Vectors.bytes(vector["hex"]))
  end

  def test_refusals_of_the_handshake
    @registry.register("a", handler { |_| {} })
    found = Taskerd::Worker.new(@registry, socket: @path, connect_timeout: Support::PATIENCE)
    launched = Thread.new { found.launch }
    launched.report_on_exception = false
    conn = accept
    id, = conn.expect("hello")
    conn.refuse(id, "overloaded", { "retry_after_ms" => 1 })
    conn.close
    conn = accept
    id, = conn.expect("hello")
    conn.send([1, id, nil, welcome("protocol" => [2, 0])])
    assert_raises(Taskerd::Client::UnsupportedVersionError) { launched.value }
  end

  def test_results_are_cut_into_frames_that_the_daemon_takes
    limits = { **Support::LIMITS, "max_frame" => 4096 }
    _, conn = worker({ "a" => handler { |_| { text: "x" * 1500 } }, "big" => handler { |_| { text: "x" * 5000 } } }, hello: { limits: limits }, threads: 1, prefetch: 50)
    conn.execute(*(1..10).map { |n| step("a", n) }, step("big", 11))
    found = []
    found.concat(conn.expect("step.result")["results"]) until found.size == 11
    conn.frames.each { |envelope| assert_operator MessagePack.pack(envelope).bytesize, :<=, 4096 }
    assert_equal "result_too_large", found.find { |r| !r["success"] }.dig("error", "error_type")
  end

  def test_handlers_registered_after_the_start_of_the_bootstrap
    bootstrap = Taskerd::Worker::Bootstrap.new(registry: @registry, traps: false, socket: @path)
    @workers << bootstrap.service
    start = Thread.new { bootstrap.start }
    conn = accept
    before = conn.hello["worker"]["handlers"]
    start.join
    @registry.register("late", handler { |_| { late: true } })
    conn = accept
    assert_equal ["late"], conn.hello["worker"]["handlers"] - before
    conn.execute(step("late"))
    assert_equal({ "late" => true }, conn.results.first["result"])
  end

  def test_no_handlers
    error = assert_raises(Taskerd::Errors::ConfigurationError) { Taskerd::Worker.new(@registry, socket: @path).launch }
    assert_includes error.message, "no handlers"
  end
end
