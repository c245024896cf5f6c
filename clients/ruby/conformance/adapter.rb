# frozen_string_literal: true

# The adapter of the Ruby client for protocol/conformance.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "taskerd"
require "taskerd/cli"

# The commands of the adapter.
module Adapter
  HANDLERS = File.expand_path("handlers.rb", __dir__)
  BROKEN = File.expand_path("broken.rb", __dir__)

  CALLS = {
    "create_task" => ->(client, args) { { task_uuid: client.create_task(**args).task_uuid } },
    "get_task" => ->(client, args) { shown(client.get_task(args[:task_uuid])) },
    "list_tasks" => ->(client, args) { { tasks: client.list_tasks(**args).tasks.map { |task| shown(task) } } },
    "list_task_steps" => ->(client, args) { client.list_task_steps(args[:task_uuid]).map { |s| { name: s.name, current_state: s.current_state } } },
    "wait_for_task" => ->(client, args) { shown(client.wait_for_task(args[:task_uuid], timeout: args[:timeout])) },
    "cancel_task" => ->(client, args) { client.cancel_task(args[:task_uuid]) },
    "health_check" => ->(client, _) { { healthy: client.health_check.healthy } },
    "request" => ->(client, args) { client.request(args[:method], args[:params] || {}) }
  }.freeze

  module_function

  def shown(task)
    { task_uuid: task.task_uuid, name: task.name, namespace: task.namespace, status: task.status, context: task.context }
  end

  # Serve until SIGTERM.
  def worker(options)
    registry = Taskerd.registry
    registry.discover_handlers(HANDLERS)
    registry.discover_handlers(BROKEN) if options[:broken]
    subscribe(options[:events], options[:socket]) if options[:events]
    Taskerd::Worker.new(registry, socket: options[:socket], name: options[:name], threads: Integer(options[:concurrency]), prefetch: 0,
                                  namespaces: options[:namespace]).run
  rescue Taskerd::Errors::Error => e
    warn "cannot serve: #{e.message}"
    1
  end

  # Note every event of a pattern.
  def subscribe(pattern, socket)
    subscriber = Class.new(Taskerd::DomainEvents::BaseSubscriber) do
      subscribes_to pattern
      def handle(event)
        Conf.note("event", name: event[:event_name], payload: event[:business_payload])
      end
    end
    registry = Taskerd::DomainEvents::SubscriberRegistry.instance
    registry.register(subscriber)
    registry.start_all!(Taskerd::DomainEvents::Poller.instance(socket: socket))
  end

  def client(options)
    $stdin.each_line do |line|
      puts JSON.generate(answer(JSON.parse(line), options[:socket]))
      $stdout.flush
    end
    0
  end

  # One call of the client.
  def answer(call, socket)
    Taskerd::Client.new(socket: call["socket"] || socket, connect_timeout: 0) do |client|
      { ok: CALLS.fetch(call["call"]).call(client, (call["args"] || {}).transform_keys(&:to_sym)) }
    end
  rescue Taskerd::DaemonError => e
    { error: { code: e.code, message: e.message, retryable: e.retryable? } }
  end

  def replay(options)
    Taskerd::CLI.run(["replay", options[:rest].first, HANDLERS, "--socket", options[:socket]])
  end

  # Options of a command line: `--namespace` may come again, `--broken` has no value.
  def options(arguments)
    found = { rest: [] }
    until arguments.empty?
      word = arguments.shift
      next found[:rest] << word unless word.start_with?("--")

      name = word.delete_prefix("--").to_sym
      case name
      when :broken then found[name] = true
      when :namespace then (found[name] ||= []) << arguments.shift
      else found[name] = arguments.shift
      end
    end
    found
  end
end

command, *rest = ARGV
exit Adapter.public_send(command, Adapter.options(rest))
