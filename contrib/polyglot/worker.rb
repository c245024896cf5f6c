# frozen_string_literal: true

require "taskerd"
include Taskerd::StepHandler::Functional

# One more than the step before.
RubyStep = step_handler("polyglot.ruby") do |context:|
  before = context.get_dependency_result(context.get_config("after"))
  { n: before["n"] + 1, language: "Ruby", runtime: RUBY_VERSION }
end
