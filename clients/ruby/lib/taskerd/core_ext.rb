# frozen_string_literal: true

# Handler files lean on parts of ActiveSupport and of the standard library that they do not require themselves. Libraries
# load on first use; where ActiveSupport is not installed the methods that handlers use most stand in for it.

{
  JSON: "json", SecureRandom: "securerandom", Timeout: "timeout", Date: "date", DateTime: "date", Set: "set", BigDecimal: "bigdecimal",
  OpenStruct: "ostruct", YAML: "yaml", URI: "uri", Digest: "digest", OpenSSL: "openssl", Base64: "base64", Pathname: "pathname",
  Tempfile: "tempfile", StringIO: "stringio", CSV: "csv", ERB: "erb", Benchmark: "benchmark", FileUtils: "fileutils", Singleton: "singleton",
  Forwardable: "forwardable", SimpleDelegator: "delegate", Zlib: "zlib", Etc: "etc", Logger: "logger", Shellwords: "shellwords",
  Concurrent: "concurrent", Faraday: "faraday"
}.each do |name, feature|
  autoload(name, feature) unless Object.const_defined?(name) || Object.autoload?(name)
end

module Taskerd
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

    def self.installed?
      $LOAD_PATH.any? { |dir| File.exist?(File.join(dir, "active_support.rb")) } ||
        (defined?(::Gem::Specification) && !Gem::Specification.find_all_by_name("activesupport").empty?)
    end
  end
end
