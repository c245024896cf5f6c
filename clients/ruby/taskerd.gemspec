# frozen_string_literal: true

require_relative "lib/taskerd/version"

Gem::Specification.new do |spec|
  spec.name = "taskerd"
  spec.version = Taskerd::VERSION
  spec.summary = "Workers and client of the workflow daemon taskerd"
  spec.description = "Write step handlers in Ruby, run them, create tasks and follow them. A worker is an ordinary process that " \
                     "talks to the taskerd of its host over a Unix socket; nothing native is loaded."
  spec.authors = ["The taskerd authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 3.1"
  spec.files = Dir["lib/**/*.rb", "exe/*", "sig/**/*.rbs", "README.md", ".yardopts", base: __dir__]
  spec.bindir = "exe"
  spec.executables = ["taskerd", "taskerd-ruby-worker"]
  spec.add_dependency "msgpack", "~> 1.4", ">= 1.4.2"
  spec.metadata["rubygems_mfa_required"] = "true"
end
