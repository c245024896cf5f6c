# frozen_string_literal: true

# Handler files lean on parts of ActiveSupport and of the standard library that they do not require themselves. Libraries
# load on first use; where ActiveSupport is not installed the methods that handlers use most stand in for it.

require "monitor"
require_relative "gems"

module Taskerd
  # Libraries that load when one of their constants is first used. (Not by autoload: that breaks libraries whose files define
  # the constant before the main file is loaded.)
  # @api private
  module LazyConstants
    FEATURES = {
      JSON: "json", SecureRandom: "securerandom", Timeout: "timeout", Date: "date", DateTime: "date", Set: "set", BigDecimal: "bigdecimal",
      OpenStruct: "ostruct", YAML: "yaml", Psych: "psych", URI: "uri", Digest: "digest", OpenSSL: "openssl", Base64: "base64", Pathname: "pathname",
      Tempfile: "tempfile", StringIO: "stringio", StringScanner: "strscan", CSV: "csv", ERB: "erb", CGI: "cgi", Benchmark: "benchmark",
      FileUtils: "fileutils", Singleton: "singleton", Forwardable: "forwardable", SimpleDelegator: "delegate", Zlib: "zlib", Etc: "etc",
      Logger: "logger", Shellwords: "shellwords", Concurrent: "concurrent", Faraday: "faraday", PP: "pp", Open3: "open3", Gem: "rubygems"
    }.freeze

    # Held while a library loads: other threads see its first constants before it is whole.
    LOADING = Monitor.new

    def const_missing(name)
      feature = FEATURES[name]
      return super if feature && Object.const_defined?(name)
      return LazyConstants.elsewhere?(self, name) ? const_get(name, false) : super if feature.nil?

      begin
        LOADING.synchronize { require feature }
      rescue LoadError
        return super
      end
      Object.const_defined?(name) ? Object.const_get(name) : super
    end

    # True if a constant is there once what another thread is loading, or has just loaded, is whole.
    def self.elsewhere?(owner, name)
      LOADING.synchronize { owner.const_defined?(name, false) }
    end
  end
  Module.prepend(LazyConstants)

  class << LazyConstants
    # While one thread loads a library another one would see half of it. So before there are threads, what the files of the
    # application name is loaded.
    def preload
      own = $LOADED_FEATURES.select { |file| file.end_with?(".rb") && own?(file) } + [$PROGRAM_NAME]
      own.select { |file| File.file?(file) }.flat_map { |file| features_in(File.read(file, encoding: "BINARY")) }.uniq.each do |feature|
        require feature
      rescue LoadError
        next
      end
    end

    private

    NAMES = /(?<![\w:])(?:#{(LazyConstants::FEATURES.keys - [:Gem]).join("|")})\b/.freeze
    METHODS = { /\.to_json\b/ => "json", /\.to_d\b/ => "bigdecimal/util" }.freeze
    private_constant :NAMES, :METHODS

    def features_in(text)
      text.scan(NAMES).uniq.map { |name| LazyConstants::FEATURES.fetch(name.to_sym) } + METHODS.select { |pattern, _| pattern.match?(text) }.values
    end

    # Libraries require what they need themselves.
    def own?(file)
      @libraries ||= RbConfig::CONFIG.values_at("rubylibdir", "rubyarchdir", "sitedir", "vendordir", "rubylibprefix").compact.uniq + [__dir__]
      !file.include?("/gems/") && @libraries.none? { |dir| file.start_with?(dir) }
    end
  end
end

module Taskerd
  # Methods of a library that load it when they are first called.
  # @api private
  module LazyMethods
    module_function

    # @param feature [String] what defines the methods of `owner`
    def define(owner, feature, *names)
      missing = names.reject { |name| owner.method_defined?(name) || owner.private_method_defined?(name) }
      (@defined ||= {})[feature] = (@defined[feature] || []) + missing.map { |name| [owner, name] }
      missing.each do |name|
        owner.define_method(name) do |*arguments, **options, &block|
          LazyMethods.load(feature)
          __send__(name, *arguments, **options, &block)
        end
      end
    end

    # The stand-ins go before the methods come.
    def load(feature)
      (@defined.delete(feature) || []).each do |owner, name|
        owner.remove_method(name) if owner.method_defined?(name, false) && owner.instance_method(name).source_location&.first == __FILE__
      end
      require feature
    end
  end

  # Stand-ins for ActiveSupport.
  # @api private
  module CoreExt
    # Load ActiveSupport if it is installed, else the stand-ins. A file .env is read if dotenv is.
    def self.load
      dotenv if File.file?(".env")
      return if defined?(::ActiveSupport::HashWithIndifferentAccess) && {}.respond_to?(:deep_symbolize_keys)
      return if ENV["TASKERD_ACTIVE_SUPPORT"] != "off" && active_support

      require_relative "core_ext/stand_ins"
    end

    def self.dotenv
      require "dotenv"
      ::Dotenv.load
    rescue LoadError
      nil
    end

    def self.active_support
      return false unless defined?(::ActiveSupport) || installed?

      require "logger" # ActiveSupport before 7.1 forgets it
      require "uri" # ActiveSupport 6.1 begins with a part of it, which not every version of it bears
      require "active_support"
      require "active_support/core_ext"
      true
    rescue LoadError
      false
    end

    def self.installed?
      $LOAD_PATH.any? { |dir| File.exist?(File.join(dir.to_s, "active_support.rb")) } || Gems.installed?("activesupport")
    end
  end
end
