# frozen_string_literal: true

module Taskerd
  # In a Rails application: handlers log with the application's logger, whose lines then reach the daemon too while a step
  # runs; each step runs in the application's executor (code reloading, connections of Active Record). Nothing is started.
  class Railtie < ::Rails::Railtie
    initializer "taskerd.logger", after: :initialize_logger do
      LogBridge.attach(::Rails.logger) if ::Rails.logger
    end

    config.after_initialize do |app|
      Worker.around_step = ->(context, &run) { app.executor.wrap { run.call(context) } }
    end

    rake_tasks do
      namespace :taskerd do
        desc "Run the handlers of this application until SIGTERM"
        task worker: :environment do
          require "taskerd/cli"
          exit CLI.run(["worker", "--require", "taskerd", *%w[app/handlers app/tasker/handlers].select { |dir| File.directory?(dir) }])
        end
      end
    end
  end
end
