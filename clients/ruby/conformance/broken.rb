# frozen_string_literal: true

raise "this file is broken on purpose"
