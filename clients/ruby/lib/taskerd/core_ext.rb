# frozen_string_literal: true

# Handler files lean on parts of ActiveSupport and of the standard library that they do not require themselves. Libraries
# load on first use; where ActiveSupport is not installed the methods that handlers use most stand in for it.

{
  JSON: "json", SecureRandom: "securerandom", Timeout: "timeout", Date: "date", DateTime: "date", Set: "set", BigDecimal: "bigdecimal",
  OpenStruct: "ostruct", YAML: "yaml", URI: "uri", Digest: "digest", OpenSSL: "openssl", Base64: "base64", Pathname: "pathname",
  Tempfile: "tempfile", StringIO: "stringio", CSV: "csv", ERB: "erb", Benchmark: "benchmark", FileUtils: "fileutils", Singleton: "singleton",
  Forwardable: "forwardable", SimpleDelegator: "delegate", Zlib: "zlib", Etc: "etc", Logger: "logger", Shellwords: "shellwords",
  Concurrent: "concurrent", Faraday: "faraday", PP: "pp"
}.each do |name, feature|
  autoload(name, feature) unless Object.const_defined?(name) || Object.autoload?(name)
end

module Taskerd
  # Methods of a library that load it when they are first called.
  # @api private
  module LazyMethods
    module_function

    # @param feature [String] what defines the methods of `owner`
    def define(owner, feature, *names)
      missing = names.reject { |name| owner.method_defined?(name) || owner.private_method_defined?(name) }
      missing.each do |name|
        owner.define_method(name) do |*arguments, **options, &block|
          LazyMethods.load(owner, feature, missing)
          __send__(name, *arguments, **options, &block)
        end
      end
    end

    def load(owner, feature, names)
      names.each { |name| owner.remove_method(name) if owner.method_defined?(name, false) && owner.instance_method(name).source_location&.first == __FILE__ }
      require feature
    end
  end

  LazyMethods.define(Object, "json", :to_json)
  LazyMethods.define(Object, "bigdecimal", :BigDecimal)

  # Stand-ins for ActiveSupport.
  # @api private
  module CoreExt
    # Load ActiveSupport if it is installed, else the stand-ins.
    def self.load
      return if defined?(::ActiveSupport::HashWithIndifferentAccess) && {}.respond_to?(:deep_symbolize_keys)
      return if ENV["TASKERD_ACTIVE_SUPPORT"] != "off" && active_support

      require_relative "core_ext/stand_ins"
    end

    def self.active_support
      return false unless defined?(::ActiveSupport) || installed?

      require "logger" # ActiveSupport before 7.1 forgets it
      require "active_support"
      require "active_support/core_ext"
      true
    rescue LoadError
      false
    end

    # Asking for a gem that is not there makes rubygems read everything that is; looking for its file does not.
    def self.installed?
      return true if $LOAD_PATH.any? { |dir| File.exist?(File.join(dir.to_s, "active_support.rb")) }
      return false unless defined?(::Gem::Specification)
      return ::Gem.loaded_specs.key?("activesupport") if defined?(::Bundler)

      ::Gem::Specification.dirs.any? { |dir| Dir.glob("activesupport-[0-9]*.gemspec", base: dir).any? }
    end
  end
end
