# frozen_string_literal: true

require_relative "support"
require "open3"

# The package as a whole: its gem, its signatures, and other surroundings.
class TestPackage < Minitest::Test
  include Support

  PROJECT = File.expand_path("..", __dir__)

  def setup
    @dir = Dir.mktmpdir("taskerd-ruby-")
  end

  def teardown
    FileUtils.rm_rf(@dir)
  end

  def run_ruby(*arguments, env: {}, **options)
    out, status = Open3.capture2e(env, RbConfig.ruby, *arguments, stdin_data: "", **options)
    [out, status.exitstatus]
  end

  def test_the_gem_builds_installs_and_holds_everything
    gem = File.join(@dir, "taskerd.gem")
    out, status = run_ruby("-S", "gem", "build", "taskerd.gemspec", "-o", gem, chdir: PROJECT)
    assert_equal 0, status, out
    assert_equal ["no homepage specified"], out.scan(/^WARNING:  (.*)$/).flatten.grep_v(/^See/)
    out, status = run_ruby("-S", "gem", "install", "--local", "--ignore-dependencies", "--no-document", "-i", File.join(@dir, "gems"), "-n", File.join(@dir, "bin"), gem)
    assert_equal 0, status, out
    installed = Dir.glob(File.join(@dir, "gems/gems/taskerd-*")).first
    held = Dir.glob("**/*.rb", base: File.join(installed, "lib")).sort
    assert_equal Dir.glob("**/*.rb", base: LIB).sort, held
    env = { "GEM_PATH" => [File.join(@dir, "gems"), *Gem.path].join(":"), "RUBYLIB" => nil }
    out, status = run_ruby(File.join(@dir, "bin/taskerd"), "--version", env: env)
    assert_equal [0, "taskerd-ruby #{Taskerd::VERSION}\n"], [status, out]
    out, status = run_ruby(File.join(@dir, "bin/taskerd-ruby-worker"), "--help", env: env)
    assert_equal [0, true], [status, out.start_with?("usage: taskerd worker")]
  end

  def test_every_file_loads_without_warnings_and_says_what_it_is
    Dir.glob("**/*.rb", base: LIB).each do |file|
      next if file == "taskerd/railtie.rb"

      source = File.read(File.join(LIB, file))
      assert source.start_with?("# frozen_string_literal: true\n"), file
      assert_operator source.lines.size, :<, 800, file
    end
    out, status = run_ruby("-w", "-I", LIB, "-e", <<~RUBY, env: { "TASKERD_ACTIVE_SUPPORT" => "off" })
      require "taskerd"; require "taskerd/cli"; require "taskerd/replay"; require "taskerd/testing"
      [Taskerd::DomainEvents, Taskerd::TemplateDiscovery, Taskerd::Observability, Taskerd::Testing::EmbeddedTaskerd, Taskerd::StepHandler::Api,
       Taskerd::StepHandler::FunctionalApi, Taskerd::Client::Connection, Taskerd::Types::TaskRequest, Taskerd::Worker::Supervisor, Taskerd::Worker::Bootstrap]
    RUBY
    assert_equal [0, ""], [status, out]
  end

  # Scripts, since these libraries change the process that loads them.
  def in_surroundings(feature, script)
    skip "#{feature} is not installed" unless run_ruby("-e", "require '#{feature}'").last.zero?
    file = File.join(@dir, "surroundings.rb")
    File.write(file, script)
    run_ruby("-W0", "-I", LIB, file, chdir: @dir)
  end

  def test_in_rspec
    out, status = in_surroundings("rspec", <<~RUBY)
      require "rspec/autorun"
      require "taskerd/testing"
      RSpec.configure { |config| config.include Taskerd::Testing }
      include Taskerd::StepHandler::Functional
      Greet = step_handler("greet", inputs: [:name]) { |name:, context:| { greeting: "Hello \#{name}" } }
      RSpec.describe("Greet") { it("greets") { expect(run_handler(Greet, { name: "Ann" }).result[:greeting]).to eq "Hello Ann" } }
    RUBY
    assert_equal [0, true], [status, out.include?("1 example, 0 failures")], out
  end

  def test_in_rails
    out, status = in_surroundings("rails", <<~RUBY)
      require "logger"; require "rails"; require "taskerd"; require "taskerd/testing"
      include Taskerd::Testing
      class App < Rails::Application
        config.eager_load = false
        config.logger = Logger.new($stdout)
        config.root = __dir__
      end
      App.initialize!
      class H < Taskerd::StepHandler::Base
        def call(context)
          Rails.logger.info("from a handler")
          success(result: { executing: Rails.application.executor.active? })
        end
      end
      App.load_tasks
      p [Taskerd::Worker.around_step.class, Rails.logger.is_a?(Taskerd::LogBridge::Attached), run_handler(H, {}).result, Rake::Task["taskerd:worker"].name]
    RUBY
    assert_equal [0, '[Proc, true, {:executing=>true}, "taskerd:worker"]'], [status, out.lines.last.to_s.chomp], out
    assert_includes out, "from a handler"
  end

  def test_the_command_starts_without_rubygems_and_has_gems_all_the_same
    file = File.join(@dir, "h.rb")
    File.write(file, "puts defined?(Gem).inspect\nrequire 'rbs'\nputs [defined?(Gem), RBS::VERSION.class].inspect\n")
    clean = { "TASKERD_ACTIVE_SUPPORT" => "off", "RUBYOPT" => nil, "GEM_HOME" => nil, "GEM_PATH" => nil, "BUNDLE_GEMFILE" => nil }
    out, status = Open3.capture2(clean, EXE, "worker", file, "--socket", "/nonexistent", chdir: @dir)
    assert_equal ["nil\n[\"constant\", String]\n", 1], [out, status.exitstatus]
    File.write(File.join(@dir, "Gemfile"), "")
    out, = Open3.capture2(clean, EXE, "worker", file, "--socket", "/nonexistent", chdir: @dir)
    assert_equal "\"constant\"", out.lines.first.chomp, "an application with a Gemfile has them from the beginning"
  end

  def test_with_active_support
    out, status = run_ruby(File.join(__dir__, "test_handlers.rb"), env: { "TASKERD_ACTIVE_SUPPORT" => "on" })
    skip "ActiveSupport is not installed" if Gem::Specification.find_all_by_name("activesupport").empty?
    assert_equal 0, status, out
    out, status = run_ruby("-I", LIB, "-e", 'require "taskerd"; p Taskerd.indifferent({ a: [{ b: 1 }] })[:a][0].class, 5.days.class', env: { "TASKERD_ACTIVE_SUPPORT" => "on" })
    assert_equal [0, "ActiveSupport::HashWithIndifferentAccess\nActiveSupport::Duration\n"], [status, out]
    out, status = run_ruby("-I", LIB, File.join(__dir__, "indifferent.rb"), env: { "TASKERD_ACTIVE_SUPPORT" => "on" })
    assert_equal [0, 1], [status, out.lines.size], out
    both = %w[on off].map { |mode| run_ruby("-I", LIB, File.join(__dir__, "stand_ins.rb"), env: { "TASKERD_ACTIVE_SUPPORT" => mode }) }
    assert_equal both[0], both[1]
    assert_equal 0, both[0][1], both[0][0]
  end

  def test_with_faraday
    skip "Faraday is not installed" if Gem::Specification.find_all_by_name("faraday").empty?
    out, status = run_ruby(File.join(__dir__, "test_api.rb"), env: { "TASKERD_FARADAY" => "on" })
    assert_equal 0, status, out
    out, = run_ruby("-I", LIB, "-e", 'require "taskerd"; p Class.new(Taskerd::StepHandler::Api).new(config: { url: "http://a/b" }).connection.class', env: { "TASKERD_FARADAY" => "on" })
    assert_includes out, "Faraday::Connection"
  end

  def test_constants_and_methods_that_handlers_do_not_require
    out, status = run_ruby("-w", "-I", LIB, "-e", <<~'RUBY', env: { "TASKERD_ACTIVE_SUPPORT" => "off" })
      require "taskerd"
      found = {
        json: JSON.generate([1]), to_json: { a: Time }.keys.to_json, object: Object.new.to_json[0, 3], uuid: SecureRandom.uuid.size, set: Set.new([1]).size,
        decimal: BigDecimal("1.5").to_s("F"), to_d: "2.5".to_d.to_s("F"), date: (Date.new(2026, 1, 1) + 5.days).to_s, ago: 2.hours.ago.class, uri: URI("http://a/").host,
        digest: Digest::SHA256.hexdigest("a")[0, 4], struct: OpenStruct.new(a: 1).a, time: Time.parse("2026-01-01T00:00:00Z").iso8601, current: Time.current.class,
        blank: [nil.blank?, " ".blank?, 0.present?, [].presence], keys: { a: { "b" => 1 } }.deep_symbolize_keys, try: nil.try(:x), week: 1.week.to_i,
        hash: { "a" => 1 }.with_indifferent_access[:a], index: [1].index_by(&:to_s), sum: (1.day + 1.hour) / 1.hour, before: 1.minute < 90, text: "Foo::BarBaz".underscore
      }
      puts JSON.generate(found)
    RUBY
    assert_equal 0, status, out
    wanted = {
      "json" => "[1]", "to_json" => '["a"]', "object" => '"#<', "uuid" => 36, "set" => 1, "decimal" => "1.5", "to_d" => "2.5", "date" => "2026-01-06", "ago" => "Time",
      "uri" => "a", "digest" => "ca97", "struct" => 1, "time" => "2026-01-01T00:00:00Z", "current" => "Time", "blank" => [true, true, true, nil], "keys" => { "a" => { "b" => 1 } },
      "try" => nil, "week" => 604_800, "hash" => 1, "index" => { "1" => 1 }, "sum" => 25, "before" => true, "text" => "foo/bar_baz"
    }
    assert_equal wanted, JSON.parse(out)
  end

  def test_what_files_name_is_loaded_before_there_are_threads
    File.write(File.join(@dir, "own.rb"), "class Own\n  def a = SecureRandom.hex + { a: 1 }.to_json\n  def b = Taskerd::Logger\n  def c = Nope::OpenSSL\nend\n")
    out, status = run_ruby("-w", "-I", LIB, "-e", <<~RUBY, env: { "TASKERD_ACTIVE_SUPPORT" => "off" })
      require "taskerd"
      require #{File.join(@dir, "own").inspect}
      Taskerd::LazyConstants.preload
      puts %i[SecureRandom JSON Logger OpenSSL CSV].map { |name| Object.const_defined?(name) }.inspect
    RUBY
    assert_equal [0, "[true, true, false, false, false]\n"], [status, out]
  end

  def test_older_files_name_the_library_by_a_path
    FileUtils.mkdir_p(File.join(@dir, "a/b"))
    File.write(File.join(@dir, "a/b/old.rb"), <<~RUBY)
      require_relative "../../lib/taskerd/errors"
      require "taskerd/types/step_handler_call_result"
      class OldOne < Taskerd::StepHandler::Base
        def call(_) = raise(Taskerd::Errors::PermanentError, "x")
      end
    RUBY
    failures = []
    assert_equal ["OldOne"], Taskerd::Loading.load(File.join(@dir, "a"), failures).map(&:name)
    assert_equal [], failures
  end

  def write(name, text)
    path = File.join(@dir, name)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
  end

  # Applications with an autoloader require nothing, and the order of the files is that of the alphabet.
  def test_a_file_may_use_what_a_later_one_defines
    write("h/auto/a_one.rb", "module Auto\n  class AOne < ZBase\n    def call(_) = { z: z }\n  end\nend\n")
    write("h/auto/z_base.rb", "module Auto\n  class ZBase < YBase\n    def z = y\n  end\nend\n")
    write("h/auto/y_base.rb", "module Auto\n  class YBase < Taskerd::StepHandler::Base\n    def y = 1\n  end\nend\n")
    failures = []
    assert_includes Taskerd::Loading.load(File.join(@dir, "h"), failures).map(&:name), "Auto::AOne"
    assert_equal [], failures
  end

  def test_a_constant_that_no_file_defines_is_named_with_its_line
    write("h/lost.rb", "\nclass Lost < NotDefined\nend\n")
    write("h/not_defined.rb", "raise 'broken itself'\n")
    write("h/z_other.rb", "class ZOther < NowhereAtAll\nend\n")
    failures = []
    Taskerd::Loading.load(File.join(@dir, "h"), failures)
    found = failures.to_h { |failure| [File.basename(failure.path), [failure.line, failure.error]] }
    assert_equal ["lost.rb", "not_defined.rb", "z_other.rb"], found.keys.sort
    assert_equal [1, "RuntimeError: broken itself"], found["not_defined.rb"]
    assert_equal [2, "NameError: uninitialized constant NotDefined"], found["lost.rb"]
    assert_equal 1, found["z_other.rb"].first
    assert_equal 3, failures.size
  end

  def test_two_handlers_of_one_name_are_told
    write("h/one.rb", "PairOne = Taskerd::StepHandler::Functional.step_handler('pair.same') { { n: 1 } }\n")
    write("h/two.rb", "\nPairTwo = Taskerd::StepHandler::Functional.step_handler('pair.same') { { n: 2 } }\n")
    out, status = run_ruby("-w", "-I", LIB, "-r", "taskerd", "-e", "Taskerd::Registry::HandlerRegistry.instance.discover_handlers(#{File.join(@dir, "h").inspect})")
    assert_equal 0, status, out
    assert_includes out, "two handlers are called pair.same: PairOne at #{@dir}/h/one.rb:1 and PairTwo at #{@dir}/h/two.rb:2; the second is used"
    assert_equal 1, out.scan("two handlers").size
  end

  def test_the_bootstrap_before_anything_was_started
    out, status = run_ruby("-w", "-I", LIB, "-r", "taskerd", "-e", <<~RUBY)
      idle = Taskerd::Worker::Bootstrap.instance
      p [idle.running?, idle.status[:running], idle.health_check[:healthy], Taskerd::Worker::Bootstrap.running?]
    RUBY
    assert_equal [0, "[false, false, false, false]\n"], [status, out]
  end

  def test_signatures
    require "rbs"
    loader = RBS::EnvironmentLoader.new
    loader.add(path: Pathname(File.join(PROJECT, "sig")))
    environment = RBS::Environment.from_loader(loader).resolve_type_names
    mine = environment.class_decls.select { |name, _| name.to_s.start_with?("::Taskerd") }
    assert_operator mine.size, :>, 20
    RBS::DefinitionBuilder.new(env: environment).then { |builder| mine.each_key { |name| builder.build_instance(name) && builder.build_singleton(name) } }
    missing = mine.flat_map { |name, entry| undefined(Object.const_get(name.to_s), entry.decls.map(&:decl)) }
    assert_equal [], missing
  end

  # Methods that a signature names and that are not there.
  def undefined(found, declarations)
    members = declarations.flat_map(&:members).grep(RBS::AST::Members::MethodDefinition)
    members.reject { |m| m.kind == :singleton ? found.respond_to?(m.name) : found.method_defined?(m.name) || found.private_method_defined?(m.name) }
           .map { |m| "#{found}#{m.kind == :singleton ? "." : "#"}#{m.name}" }
  end
end
