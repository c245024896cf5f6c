# frozen_string_literal: true

module Taskerd
  # The version of this library.
  VERSION = "0.1.0"
  # Highest version of the protocol that this library speaks.
  PROTOCOL_VERSION = [1, 0].freeze
  # What the daemon is told about the library.
  CLIENT_NAME = "taskerd-ruby/#{VERSION}"
end
