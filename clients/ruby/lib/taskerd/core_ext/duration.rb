# frozen_string_literal: true

module Taskerd
  module CoreExt
    # A length of time, such as `5.days`: a number of seconds that knows the calendar's days when it meets a date.
    class Duration < Numeric
      UNITS = { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800, fortnight: 1_209_600, month: 2_629_746, year: 31_556_952 }.freeze

      # @return [Numeric] seconds
      attr_reader :value

      def initialize(value)
        super()
        @value = value
      end

      %i[to_i to_f to_r to_int hash zero? positive? negative? round floor ceil truncate to_s].each do |name|
        define_method(name) { |*args| @value.public_send(name, *args) }
      end

      %i[+ - * / %].each do |name|
        define_method(name) do |other|
          made = @value.public_send(name, other.is_a?(Duration) ? other.value : other)
          name == :/ && other.is_a?(Duration) ? made : Duration.new(made)
        end
      end

      def -@
        Duration.new(-@value)
      end

      def coerce(other)
        [other, @value]
      end

      def <=>(other)
        @value <=> (other.is_a?(Duration) ? other.value : other)
      end

      def ==(other)
        (self <=> other) == 0 # rubocop:disable Style/NumericPredicate -- it may be nil
      end
      alias eql? ==

      def ago(time = Time.now)
        time - @value
      end
      alias before ago
      alias until ago

      def from_now(time = Time.now)
        time + @value
      end
      alias since from_now
      alias after from_now

      UNITS.each do |name, seconds|
        define_method("in_#{name}s") { @value / seconds.to_f }
      end

      def iso8601
        "PT#{@value}S"
      end

      def inspect
        "#{@value} seconds"
      end

      # @api private
      def after_date(date)
        return date.method(:+).super_method.call(@value / 86_400) if (@value % 86_400).zero?

        date.to_time + @value
      end
    end
  end
end
