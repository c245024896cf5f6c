# frozen_string_literal: true

require "date"
require_relative "duration"

module Taskerd
  module CoreExt
    # What is defined where ActiveSupport is not: only methods that the class does not have.
    module StandIns
      module_function

      def add(target, source)
        source.public_instance_methods(false).each do |name|
          next if target.method_defined?(name) || target.private_method_defined?(name)

          target.define_method(name, source.instance_method(name))
        end
      end

      # A time in the zone of another.
      def time(other, *parts)
        other.utc? ? Time.utc(*parts) : Time.new(*parts, other.utc_offset)
      end

      # Every object.
      module ForObject
        def blank?
          respond_to?(:empty?) ? empty? : !self
        end

        def present?
          !blank?
        end

        def presence
          self if present?
        end

        def in?(others)
          others.include?(self)
        end

        def deep_dup
          duplicable = !is_a?(Module) && !is_a?(Method) && !is_a?(Proc)
          duplicable ? dup : self
        end

        def try(name = nil, *args, &block)
          return (block.arity.zero? ? instance_eval(&block) : yield(self)) if name.nil?

          public_send(name, *args, &block) if respond_to?(name)
        end
      end

      # nil.
      module ForNil
        def try(*)
          nil
        end
      end

      # Hashes.
      module ForHash
        def symbolize_keys
          transform_keys { |key| key.respond_to?(:to_sym) ? key.to_sym : key }
        end

        def stringify_keys
          transform_keys(&:to_s)
        end

        def deep_transform_keys(&block)
          Keys.deep(self, &block)
        end

        def deep_symbolize_keys
          Keys.deep(self) { |key| key.respond_to?(:to_sym) ? key.to_sym : key }
        end

        def deep_stringify_keys
          Keys.deep(self, &:to_s)
        end

        def with_indifferent_access
          IndifferentHash.of(self)
        end

        def reverse_merge(other)
          other.merge(self)
        end

        def deep_dup
          transform_values { |value| value.respond_to?(:deep_dup) ? value.deep_dup : value }
        end

        def deep_merge(other, &block)
          merge(other) do |key, mine, theirs|
            if mine.is_a?(Hash) && theirs.is_a?(Hash) then mine.deep_merge(theirs, &block)
            else block ? block.call(key, mine, theirs) : theirs
            end
          end
        end

        def compact_blank
          reject { |_, value| value.blank? }
        end

        def assert_valid_keys(*valid)
          bad = keys.find { |key| !valid.flatten.include?(key) }
          raise ArgumentError, "Unknown key: #{bad.inspect}. Valid keys are: #{valid.flatten.map(&:inspect).join(", ")}" unless bad.nil?
        end

        %i[symbolize_keys stringify_keys deep_symbolize_keys deep_stringify_keys compact_blank].each do |name|
          define_method("#{name}!") { replace(public_send(name)) }
        end

        def deep_merge!(other, &block)
          replace(deep_merge(other, &block))
        end

        def reverse_merge!(other)
          replace(reverse_merge(other))
        end

        def except!(*keys)
          keys.each { |key| delete(key) }
          self
        end
      end

      # Arrays.
      module ForArray
        def second
          self[1]
        end

        def third
          self[2]
        end

        def deep_dup
          map { |value| value.respond_to?(:deep_dup) ? value.deep_dup : value }
        end

        def in_groups_of(number, fill_with = nil)
          each_slice(number).map { |group| fill_with == false ? group : group + ([fill_with] * (number - group.size)) }
        end

        def to_sentence
          size < 3 ? join(" and ") : "#{self[0..-2].join(", ")}, and #{last}"
        end

        def excluding(*others)
          self - others.flatten(1)
        end
        alias_method :without, :excluding

        def including(*others)
          self + others.flatten(1)
        end

        def extract_options!
          last.instance_of?(Hash) ? pop : {}
        end

        def from(position)
          self[position..] || []
        end

        def to(position)
          position >= 0 ? first(position + 1) : self[0..position]
        end
      end

      # The class of arrays.
      module ForArrayClass
        def wrap(object)
          return [] if object.nil?

          object.respond_to?(:to_ary) ? object.to_ary || [object] : [object]
        end
      end

      # Classes and modules.
      module ForModule
        def delegate(*names, to:, prefix: nil, allow_nil: false, private: nil)
          names.map do |name|
            made = prefix ? :"#{prefix == true ? to : prefix}_#{name}" : name
            define_method(made) do |*arguments, **options, &block|
              target = to.to_s == "class" ? self.class : instance_eval(to.to_s, __FILE__, __LINE__)
              next nil if target.nil? && allow_nil

              target.public_send(name, *arguments, **options, &block)
            end
            private(made) if private
            made
          end
        end

        def class_attribute(*names, default: nil)
          names.each do |name|
            variable = :"@#{name}"
            define_singleton_method(name) do
              next instance_variable_get(variable) if instance_variable_defined?(variable)

              superclass.respond_to?(name) ? superclass.public_send(name) : nil
            end
            define_singleton_method("#{name}=") { |value| instance_variable_set(variable, value) }
            define_singleton_method("#{name}?") { !!public_send(name) }
            define_method(name) { instance_variable_defined?(variable) ? instance_variable_get(variable) : self.class.public_send(name) }
            define_method("#{name}=") { |value| instance_variable_set(variable, value) }
            instance_variable_set(variable, default)
          end
        end

        def mattr_accessor(*names, default: nil)
          names.each do |name|
            held = default
            define_singleton_method(name) { held }
            define_singleton_method("#{name}=") { |value| held = value }
            define_method(name) { held }
            define_method("#{name}=") { |value| held = value }
          end
        end
        alias_method :cattr_accessor, :mattr_accessor
      end

      # Whatever can be iterated.
      module ForEnumerable
        def index_by
          to_h { |item| [yield(item), item] }
        end

        def index_with(default = nil)
          to_h { |item| [item, block_given? ? yield(item) : default] }
        end

        def pluck(*keys)
          map { |item| keys.size == 1 ? item[keys.first] : keys.map { |key| item[key] } }
        end

        def many?(&block)
          count(&block) > 1
        end

        def exclude?(item)
          !include?(item)
        end

        def compact_blank
          reject(&:blank?)
        end
      end

      # Text.
      module ForString
        def blank?
          match?(/\A[[:space:]]*\z/)
        end

        def squish
          strip.gsub(/[[:space:]]+/, " ")
        end

        def truncate(length, omission: "...")
          size > length ? self[0, length - omission.size] + omission : dup
        end

        def underscore
          Handlers.snake_case(gsub("::", "/"))
        end

        def camelize
          split("/").map { |part| part.split("_").map { |word| word[0].to_s.upcase + word[1..].to_s }.join }.join("::")
        end
        alias_method :classify, :camelize

        def demodulize
          split("::").last.to_s
        end

        def titleize
          underscore.tr("_", " ").split.map(&:capitalize).join(" ")
        end

        def humanize
          underscore.tr("_", " ").delete_suffix(" id").capitalize
        end

        def parameterize(separator: "-")
          downcase.gsub(/[^a-z0-9\-_]+/, separator).gsub(/\A#{separator}|#{separator}\z/, "")
        end

        def constantize
          Object.const_get(self)
        end

        def safe_constantize
          Object.const_get(self)
        rescue NameError
          nil
        end

        def exclude?(other)
          !include?(other)
        end

        def starts_with?(*texts)
          start_with?(*texts)
        end

        def ends_with?(*texts)
          end_with?(*texts)
        end

        def first(limit = 1)
          self[0, limit]
        end

        def last(limit = 1)
          limit >= size ? dup : self[-limit, limit] || ""
        end

        def remove(*patterns)
          patterns.inject(self) { |text, pattern| text.gsub(pattern, "") }
        end

        def to_date
          Date.parse(self) unless blank?
        end

        def to_datetime
          DateTime.parse(self) unless blank?
        end
      end

      # Numbers.
      module ForNumeric
        Duration::UNITS.each do |name, seconds|
          define_method(name) { Duration.new(self * seconds) }
          define_method("#{name}s") { Duration.new(self * seconds) }
        end

        { kilobyte: 1, megabyte: 2, gigabyte: 3 }.each do |name, power|
          define_method(name) { self * (1024**power) }
          define_method("#{name}s") { self * (1024**power) }
        end
      end

      # Times.
      module ForTime
        def ago(seconds)
          self - seconds
        end

        def since(seconds)
          self + seconds
        end

        def beginning_of_day
          StandIns.time(self, year, month, day, 0, 0, 0)
        end

        def end_of_day
          StandIns.time(self, year, month, day, 23, 59, 59)
        end

        def beginning_of_month
          StandIns.time(self, year, month, 1, 0, 0, 0)
        end

        def beginning_of_year
          StandIns.time(self, year, 1, 1, 0, 0, 0)
        end

        def beginning_of_hour
          StandIns.time(self, year, month, day, hour, 0, 0)
        end

        def past?
          self < Time.now
        end

        def future?
          self > Time.now
        end
      end

      # Dates plus durations; a number is days.
      module ForDate
        def +(other)
          other.is_a?(Duration) ? other.after_date(self) : super
        end

        def -(other)
          other.is_a?(Duration) ? (-other).after_date(self) : super
        end

        def beginning_of_month
          self.class.new(year, month, 1)
        end

        def end_of_month
          self.class.new(year, month, -1)
        end

        def past?
          self < Date.today
        end

        def future?
          self > Date.today
        end
      end

      # The classes of times and dates.
      module Now
        def current
          respond_to?(:now) ? now : today
        end

        def zone
          self
        end

        def tomorrow
          Date.today + 1
        end

        def yesterday
          Date.today - 1
        end
      end

      LazyMethods.define(Object, "json", :to_json)
      { BigDecimal: "bigdecimal", URI: "uri", Pathname: "pathname" }.each { |name, feature| LazyMethods.define(Object, feature, name) }
      [String, Integer, Float, NilClass].each { |kind| LazyMethods.define(kind, "bigdecimal/util", :to_d) }

      add(Object, ForObject)
      NilClass.define_method(:try, ForNil.instance_method(:try))
      { Hash => ForHash, Array => ForArray, Enumerable => ForEnumerable, Numeric => ForNumeric, Time => ForTime, Module => ForModule }.each { |target, source| add(target, source) }
      String.define_method(:blank?, ForString.instance_method(:blank?))
      add(String, ForString)
      Array.extend(ForArrayClass)
      Time.extend(Now)
      Date.prepend(ForDate)
      Date.extend(Now)
    end
  end
end
