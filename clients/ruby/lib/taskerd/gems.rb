# frozen_string_literal: true

require "rbconfig"

module Taskerd
  # Rubygems takes longer to load than all the rest of a worker. The commands start without it, and load it when something is
  # required that is not there otherwise. An application that has a Gemfile, or says by RUBYOPT what to require, has it from the beginning.
  # @api private
  module Gems
    # Before everything else where rubygems is not loaded.
    module OnDemand
      private

      def require(feature)
        super
      rescue LoadError => e
        raise if defined?(::Gem) || e.path.nil? || e.path != feature.to_s

        Gems.load
        super
      end

      def gem(...)
        Gems.load
        super
      end
    end

    class << self
      # Called first by the commands.
      def start
        return if defined?(::Gem)
        return load if bundled?

        dirs = msgpack
        return load if dirs.nil?

        $LOAD_PATH.concat(dirs)
        Object.prepend(OnDemand)
      end

      def load
        Kernel.require("rubygems")
      end

      # @return [Boolean] true if a gem is installed; asking rubygems would make it read all that are
      def installed?(name)
        return ::Gem.loaded_specs.key?(name) if defined?(::Bundler)

        dirs = defined?(::Gem) ? ::Gem::Specification.dirs : homes.map { |home| File.join(home, "specifications") }
        dirs.any? { |dir| Dir.glob("#{name}-[0-9]*.gemspec", base: dir).any? }
      end

      private

      def bundled?
        %w[BUNDLE_GEMFILE GEM_HOME GEM_PATH].any? { |name| !ENV.fetch(name, "").empty? } || ENV.fetch("RUBYOPT", "").include?("-r") || File.exist?("Gemfile")
      end

      # Where Ruby and Debian put gems.
      def homes
        version = RbConfig::CONFIG["ruby_version"]
        [*Dir.glob("/usr/{share,lib/*}/rubygems-integration/{all,#{version}}"), "/var/lib/gems/#{version}", "/usr/local/lib/ruby/gems/#{version}",
         File.join(RbConfig::CONFIG["rubylibprefix"], "gems", version)]
      end

      # @return [Array<String>, nil] what the one gem that is needed adds to the path; nil if that cannot be told
      def msgpack
        return [] if $LOAD_PATH.any? { |dir| File.exist?(File.join(dir, "msgpack.rb")) }

        homes.each do |home|
          lib = Dir.glob(File.join(home, "gems/msgpack-*/lib")).max
          next if lib.nil?

          built = Dir.glob(File.join(home, "extensions/*/*", File.basename(File.dirname(lib)))).first
          return [lib, built].compact if built || File.exist?(File.join(lib, "msgpack/msgpack.so"))
        end
        nil
      end
    end
  end
end
