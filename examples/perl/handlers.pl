use strict;
use warnings;
use utf8;

# Counts to the context's `to`, in tens; a later attempt goes on where an earlier one was.
sub count_up {
	my ($step, $checkpoint) = @_;
	my $n = $step->{checkpoint} ? $step->{checkpoint}{cursor} : 0;
	while ($n < $step->{context}{to}) {
		$n += 10;
		$checkpoint->($n, items_processed => $n) or die {message => 'the step is no longer ours'};
	}
	return {counted => $n};
}

return {
	'perl.hello' => sub { my ($step) = @_; return {text => "Hello, $step->{context}{name}!"} },
	'perl.count' => \&count_up,
	'perl.sum'   => sub { my ($step) = @_; my $sum = 0; $sum += $_->{counted} // 0 for values %{$step->{dependencies}}; return {sum => $sum} },
	'perl.flaky' => sub { my ($step) = @_; die "not yet\n" if $step->{attempt} == 1; return {attempt => $step->{attempt}} },
	'perl.no'    => sub { die {message => 'never', error_type => 'Never', retryable => JSON::PP::false()} },
};
