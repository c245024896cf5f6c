# frozen_string_literal: true

require_relative "support"
require "open3"
require "taskerd/testing"
require "taskerd/cli"

# The page of the client: every snippet runs.
class TestReadme < Minitest::Test
  include Support

  ENV["TASKERD_PROGRAM"] ||= File.join(ENV["TASKERD_BUILD"] || File.join(ROOT, "build"), "daemon", "taskerd")
  PROJECT = File.expand_path("..", __dir__)
  TEXT = File.read(File.join(PROJECT, "README.md"), encoding: "UTF-8")
  # Language, name and text of each block.
  BLOCKS = TEXT.scan(/^```(\w+)\n(?:# (\S+)\n)?(.*?)^```$/m)
  NEED_A_DAEMON = %w[consume.rb order.rb inside.rb shop_test.rb].freeze

  def setup
    @dir = Dir.mktmpdir("taskerd-ruby-")
    BLOCKS.each do |_, name, text|
      next if name.nil?

      FileUtils.mkdir_p(File.dirname(File.join(@dir, name)))
      File.write(File.join(@dir, name), text)
    end
  end

  def teardown
    FileUtils.rm_rf(@dir)
  end

  def ruby(*arguments, env: {})
    out, status = Open3.capture2e({ "TASKERD_SOCKET" => "/nonexistent", **env }, RbConfig.ruby, "-w", "-I", LIB, *arguments, chdir: @dir, stdin_data: "")
    [out, status.exitstatus]
  end

  def test_every_block_of_ruby_has_a_name
    assert_equal [], BLOCKS.select { |kind, name, _| kind == "ruby" && name.nil? }
    assert_operator BLOCKS.size, :>, 10
  end

  def test_the_handlers_load_and_run
    files = BLOCKS.filter_map { |kind, name, _| name if kind == "ruby" && !NEED_A_DAEMON.include?(name) }
    out, status = ruby("-e", <<~RUBY, *files)
      require "taskerd/testing"
require "taskerd/cli"
      include Taskerd::Testing
      failures = []
      names = ARGV.flat_map { |file| Taskerd::Loading.load(file, failures).flat_map(&:callables) }
      abort failures.join("\\n") unless failures.empty?
      puts names
      puts run_handler(Greet, { name: "Ada" }).result
      puts run_handler(Shop::ShipHandler, { cart_id: 3 }, method: "cancel", config: {}).result
      puts run_handler(Shop::ShipHandler, {}, dependencies: { charge: { total: 7 } }, config: { carrier: "ship" }).result
      puts run_handler(Approval, { amount: 500 }).result[:decision_point_outcome]
      puts run_handler(ApprovalHandler).result[:by]
      puts run_handler(Analyze, { rows: 2500 }).result.dig(:batch_processing_outcome, :worker_count)
      puts run_handler(BankChargeHandler, { order_id: 1 }, config: { url: "http://127.0.0.1:1" }).error_type
    RUBY
    assert_equal 0, status, out
    ["greet", "Shop::ShipHandler", "Rows::Work", "Hello Ada", "amount", "create_steps", "RetryableError", "shipped"].each { |text| assert_includes out, text }
  end

  def test_the_programs_against_a_daemon
    daemon = Taskerd::Testing::EmbeddedTaskerd.shared
    env = { "TASKERD_SOCKET" => daemon.socket }
    out, status = ruby("shop_test.rb", env: env)
    assert_equal 0, status, out
    assert_includes out, "4 runs"
    daemon.apply(File.join(@dir, "greet.yaml"))
    daemon.worker([File.join(@dir, "greet.rb")]) do
      out, status = ruby("order.rb", env: env)
      assert_equal 0, status, out
      assert_includes out, "complete\nHello Ada"
    end
    %w[consume.rb inside.rb].each do |name|
      out, status = ruby(name, env: env)
      assert_equal 0, status, "#{name}: #{out}"
    end
    assert_includes out, "true"
  end

  def test_porting_by_sed
    app = File.join(@dir, "app")
    FileUtils.mkdir_p([app, File.join(@dir, "lib"), File.join(@dir, "spec")])
    File.write(File.join(app, "old_handler.rb"), <<~RUBY)
      require 'tasker_core'
      class OldHandler < TaskerCore::StepHandler::Base
        def call(context)
          TaskerCore::Types::StepHandlerCallResult.success(result: { name: context.get_task_field('name') })
        end
      end
    RUBY
    command = TEXT[/^    (sed -i .*)$/, 1]
    assert system("sh", "-ec", command, chdir: @dir)
    out, status = ruby("-e", "require './app/old_handler'; require 'taskerd/testing'; p Taskerd::Testing.run_handler(OldHandler, { name: 'x' }).result")
    assert_equal [0, %({:name=>"x"}\n)], [status, out]
  end

  def test_the_unit_file
    unit = BLOCKS.find { |kind, _, _| kind == "ini" }.last
    words = unit[/^ExecStart=(.*)$/, 1].split
    out, status = ruby(EXE, *words.drop(1), "--help")
    assert_equal [0, true], [status, out.include?("usage: taskerd worker")]
    options = words.grep(/^--/)
    options.each { |option| assert_includes out, option }
    assert_equal %w[[Unit] [Service] [Install]], unit.scan(/^\[\w+\]$/)
  end

  def test_options_that_the_page_names
    known = Taskerd::CLI::OPTIONS.values.flat_map(&:keys) + %w[--embedded --help --version --yjit --yjit-exec-mem-size]
    TEXT.scan(/(?<![\w-])--[a-z][a-z-]+/).uniq.each { |option| assert_includes known, option }
  end
end
