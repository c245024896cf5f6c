#!/usr/bin/perl
# A worker in Perl: what protocol/PROTOCOL.md asks of one, and no more. One process that runs one step at a time, keeps every result until it is acknowledged, and
# goes on where it was when the connection or the daemon has gone away. Perl's own modules are enough for it.
#
#	perl worker.pl handlers.pl [--socket PATH] [--namespace NAME]...
#
# The file gives a map of callables to functions, which are given a step as step.execute has it, and a function that stores a checkpoint (cursor, and more by name) and
# is false when the step is no longer ours. A handler that dies has failed: with a text, and is tried again, or with an error as step.result has it. While it runs, an
# alarm sends heartbeats: what it sleeps or waits for is interrupted by that.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Getopt::Long;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP ();
use Tasker;
use Time::HiRes qw(ITIMER_REAL setitimer sleep time);

my $runtime = ($ENV{XDG_RUNTIME_DIR} // '') . '/taskerd/taskerd.sock';
my $path = $ENV{TASKERD_SOCKET} // (-S $runtime ? $runtime : '/run/taskerd/taskerd.sock');
my @namespaces;
GetOptions('socket=s' => \$path, 'namespace=s' => \@namespaces) && @ARGV == 1 or die "usage: $0 handlers.pl [--socket PATH] [--namespace NAME]...\n";
my $file = $ARGV[0] =~ m{/} ? $ARGV[0] : "./$ARGV[0]";
my $handlers = do $file or die "$file: ", $@ || $!, "\n";

my ($socket, $in, $out) = (undef, '', '');
my ($session, $heartbeat, $last_sent, $delay, $ids) = ('', 5, 0, 0.1, 0);
my ($stopping, $draining) = (0, 0);
my %answer;     # [error, result] of our requests, by id
my @waiting;    # steps that we were given and have not begun
my @unacked;    # results
my $running;    # the step whose handler runs
$SIG{TERM} = $SIG{INT} = sub { $stopping = 1 };
$SIG{PIPE} = 'IGNORE';

sub put { $out .= Tasker::frame($_[0]); $last_sent = time }
sub notify { put([2, $_[0], $_[1] // {}]) }
sub is_of { my ($it, $claim) = @_; $it->{step_uuid} eq $claim->{step_uuid} && $it->{attempt} == $claim->{attempt} }

my %on = (
	'step.execute' => sub { push @waiting, @{$_[0]{steps}} },
	'result.ack'   => sub {
		for my $ack (@{$_[0]{acks}}) {
			@unacked = grep { !is_of($_, $ack) } @unacked;
			$delay = 0.1;
			warn "step $ack->{step_uuid}: $ack->{status}", $ack->{message} ? ": $ack->{message}" : '', "\n" if $ack->{status} ne 'recorded';
		}
	},
	# What has not begun is answered too: it keeps its place until then.
	'step.cancel' => sub {
		my ($cancel) = @_;
		my @over = grep { is_of($_, $cancel) } @waiting;
		@waiting = grep { !is_of($_, $cancel) } @waiting;
		finish($_, undef, {message => "cancelled: $cancel->{reason}"}) for @over;
	},
	'worker.finish' => sub { $stopping = 1 },
	'error'         => sub { warn "the daemon says: $_[0]{code}: $_[0]{message}\n" },
);

sub receive {
	my ($message) = @_;
	my ($kind, $second, $third, $fourth) = @$message;
	if ($kind == 1) { $answer{$second} = [$third, $fourth] }
	elsif ($kind == 2 && $on{$second}) { $on{$second}->($third) }
}

sub lose { close $socket if $socket; ($socket, $in, $out) = (undef, '', ''); %answer = () }

sub send_some {
	my $n = syswrite $socket, $out;
	return 0 if !defined $n && !$!{EAGAIN} && !$!{EINTR};
	substr $out, 0, $n // 0, '';
	return 1;
}

# One turn: send and read what there is, waiting for so long at most. False when the connection is gone.
sub turn {
	my ($seconds) = @_;
	local $SIG{ALRM} = 'IGNORE';
	notify('heartbeat') if time - $last_sent > $heartbeat / 2;
	my $set = IO::Select->new($socket);
	my ($r, $w) = IO::Select->select($set, length $out ? $set : undef, undef, $seconds);
	return 0 if $w && @$w && !send_some();
	if ($r && @$r) {
		my $n = sysread $socket, $in, 65536, length $in;
		return 0 if !$n && (defined $n || !$!{EAGAIN} && !$!{EINTR});
		while (my ($message) = Tasker::next_frame(\$in)) { receive($message) }
	}
	return 1;
}

# The answer to a request: [error, result], or undef if the connection ended first.
sub ask {
	my ($method, $params) = @_;
	my $id = $ids++ % 2**32;
	put([0, $id, $method, $params]);
	until ($answer{$id}) { turn(1) or return }
	$delay = 0.1;
	return delete $answer{$id};
}

sub hello {
	my @held = (@waiting, @unacked, $running // ());
	my $answer = ask('hello', {protocol => [1, 0], client => 'perl-example/1', language => 'perl', pid => $$ + 0,
		worker => {name => 'perl', namespaces => @namespaces ? \@namespaces : ['*'], handlers => [sort keys %$handlers], max_concurrency => 1},
		$session ? (resume => {session => $session, held => scalar @held}) : ()}) or return 0;
	die "refused: $answer->[0]{message}\n" if $answer->[0] && $answer->[0]{code} !~ /^(overloaded|database_unavailable|shutting_down)$/;
	return 0 if $answer->[0];
	($session, $heartbeat) = ($answer->[1]{session}, $answer->[1]{heartbeat_ms} / 1000);
	return !@held || resume(@held);
}

# Say what we hold; then every result again. What is stale and has not begun is not begun.
sub resume {
	my $answer = ask('session.resume', {steps => [map { {step_uuid => $_->{step_uuid}, attempt => $_->{attempt}, claim => $_->{claim}} } @_]}) or return 0;
	for my $of (grep { $_->{status} eq 'stale' } @{($answer->[1] // {})->{steps} // []}) {
		@waiting = grep { !is_of($_, $of) } @waiting;
	}
	notify('step.result', {results => [@unacked]}) if @unacked;
	return 1;
}

sub connected {
	until ($socket) {
		$socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path);
		if ($socket) {
			$socket->blocking(0);
			lose() unless hello();
		}
		next if $socket;
		exit 1 if $stopping;
		sleep(rand $delay);
		$delay = $delay * 2 < 2 ? $delay * 2 : 2;
	}
}

sub finish {
	my ($step, $result, $error, $ms) = @_;
	push @unacked, {step_uuid => $step->{step_uuid}, attempt => $step->{attempt}, claim => $step->{claim}, execution_ms => $ms // 0,
		$error ? (success => JSON::PP::false(), error => $error) : (success => JSON::PP::true(), result => $result)};
	notify('step.result', {results => [$unacked[-1]]}) if $socket;
}

sub checkpoint {
	my ($step, $cursor, %more) = @_;
	for (;;) {
		connected();
		my $answer = ask('step.checkpoint', {step_uuid => $step->{step_uuid}, attempt => $step->{attempt}, claim => $step->{claim}, cursor => $cursor, %more});
		return !$answer->[0] && $answer->[1]{status} eq 'recorded' if $answer && !($answer->[0] && $answer->[0]{retry_after_ms});
		$answer ? sleep($answer->[0]{retry_after_ms} / 1000) : lose();
	}
}

# Ancestors' results that did not fit into the message.
sub fetch_dependencies {
	my ($step) = @_;
	my $cursor;
	do {
		my $answer = ask('step.dependencies', {step_uuid => $step->{step_uuid}, cursor => $cursor});
		die {message => 'the results of earlier steps could not be had'} if !$answer || $answer->[0];
		$step->{dependencies} = {%{$step->{dependencies} // {}}, %{$answer->[1]{dependencies}}};
		$cursor = $answer->[1]{next_cursor};
	} while defined $cursor;
}

sub run {
	my ($step) = @_;
	my ($began, $result) = (time);
	$running = $step;
	local $SIG{ALRM} = sub { notify('heartbeat'), send_some() if $socket };
	setitimer(ITIMER_REAL, $heartbeat / 2, $heartbeat / 2);
	my $done = eval {
		fetch_dependencies($step) if $step->{dependencies_partial};
		$result = $handlers->{$step->{handler}{callable}}->($step, sub { checkpoint($step, @_) });
		1;
	};
	my $error = $done ? undef : ref $@ eq 'HASH' ? $@ : {message => "$@" || 'died', error_type => 'perl'};
	setitimer(ITIMER_REAL, 0);
	$running = undef;
	finish($step, $result, $error, 1000 * (time - $began));
}

while (!$stopping || @waiting || @unacked) {
	connected();
	if ($stopping && !$draining) {
		notify('worker.update', {draining => JSON::PP::true()});
		$draining = 1;
	}
	if (!turn(@waiting ? 0 : $stopping ? 0.2 : $heartbeat / 4)) { lose(); $draining = 0 }
	elsif (my $step = shift @waiting) { run($step) }
}
notify('goodbye');
turn(1) while $socket && length $out;
