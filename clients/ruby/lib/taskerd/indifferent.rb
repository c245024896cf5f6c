# frozen_string_literal: true

module Taskerd
  # A Hash whose keys may be given as strings or symbols; they are kept as strings. Like ActiveSupport's, which is used
  # in its place where it is loaded.
  class IndifferentHash < Hash
    # @return [IndifferentHash] with all hashes below made indifferent too
    def self.of(hash)
      new.update(hash)
    end

    class << self
      def [](*args)
        of(Hash[*args])
      end

      # A value with every Hash in it made indifferent.
      def deep(value)
        case value
        when IndifferentHash then value
        when Hash then of(value)
        when Array then value.map { |item| deep(item) }
        else value
        end
      end

      # A key as it is kept.
      def key(key)
        key.is_a?(Symbol) ? key.name : key
      end
    end

    def initialize(hash = nil, &block)
      if hash.is_a?(Hash)
        super()
        update(hash)
      elsif block
        super(&block)
      else
        super(hash)
      end
    end

    def [](key)
      super(IndifferentHash.key(key))
    end

    def []=(key, value)
      super(IndifferentHash.key(key), IndifferentHash.deep(value))
    end
    alias store []=

    def default(key = nil)
      super(IndifferentHash.key(key))
    end

    %i[key? has_key? include? member? delete assoc].each do |name|
      define_method(name) { |key, &block| super(IndifferentHash.key(key), &block) }
    end

    def fetch(key, *rest, &block)
      super(IndifferentHash.key(key), *rest, &block)
    end

    def dig(key, *rest)
      super(IndifferentHash.key(key), *rest)
    end

    %i[values_at fetch_values].each do |name|
      define_method(name) { |*keys, &block| super(*keys.map { |k| IndifferentHash.key(k) }, &block) }
    end

    %i[slice except].each do |name|
      define_method(name) { |*keys| IndifferentHash.of(to_hash_shallow.public_send(name, *keys.map { |k| IndifferentHash.key(k) })) }
    end

    def update(*others)
      others.each do |other|
        other.to_h.each do |key, value|
          name = IndifferentHash.key(key)
          value = yield(name, self[name], value) if block_given? && key?(name)
          self[name] = value
        end
      end
      self
    end
    alias merge! update

    def merge(*others, &block)
      dup.update(*others, &block)
    end

    def reverse_merge(other)
      IndifferentHash.of(other).update(self)
    end
    alias with_defaults reverse_merge

    def replace(other)
      clear
      update(other)
    end

    %i[select filter reject compact transform_values].each do |name|
      define_method(name) do |*args, &block|
        next to_enum(name) if block.nil? && name != :compact

        IndifferentHash.of(to_hash_shallow.public_send(name, *args, &block))
      end
    end

    def transform_keys(...)
      IndifferentHash.of(to_hash_shallow.transform_keys(...))
    end

    # A plain Hash with string keys, at every depth.
    def to_hash
      plain = ->(value) do
        case value
        when Hash then value.each_with_object({}) { |(k, v), out| out[k] = plain.(v) }
        when Array then value.map(&plain)
        else value
        end
      end
      plain.(self)
    end

    # A plain Hash with string keys.
    def to_h(&block)
      block ? to_hash_shallow.to_h(&block) : to_hash
    end

    # The same with symbols as keys.
    def symbolize_keys
      to_hash_shallow.transform_keys { |k| k.respond_to?(:to_sym) ? k.to_sym : k }
    end
    alias to_options symbolize_keys

    def deep_symbolize_keys
      Keys.deep(self) { |k| k.respond_to?(:to_sym) ? k.to_sym : k }
    end

    def stringify_keys
      dup
    end

    def deep_stringify_keys
      dup
    end

    def with_indifferent_access
      dup
    end
    alias nested_under_indifferent_access itself

    # So that `in {name:}` finds keys that are kept as strings.
    def deconstruct_keys(keys)
      keys.nil? ? symbolize_keys : self
    end

    def dup
      IndifferentHash.new.update(self)
    end

    private

    def to_hash_shallow
      each_with_object({}) { |(k, v), out| out[k] = v }
    end
  end

  # Keys of nested hashes.
  module Keys
    module_function

    # A value with the keys of every Hash in it replaced.
    def deep(value, &block)
      case value
      when Hash then value.each_with_object({}) { |(k, v), out| out[block.call(k)] = deep(v, &block) }
      when Array then value.map { |item| deep(item, &block) }
      else value
      end
    end
  end

  # A value with every Hash in it made indifferent: by ActiveSupport's class where it is loaded, else by this library's.
  def self.indifferent(value)
    kind = defined?(::ActiveSupport::HashWithIndifferentAccess) ? ::ActiveSupport::HashWithIndifferentAccess : nil
    return IndifferentHash.deep(value) if kind.nil?

    case value
    when kind then value
    when Hash then kind.new(value)
    when Array then value.map { |item| indifferent(item) }
    else value
    end
  end
end
