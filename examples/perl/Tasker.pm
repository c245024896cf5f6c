# MessagePack and frames as protocol/PROTOCOL.md, section 1, has them, in plain Perl.
package Tasker;
use strict;
use warnings;
use B ();
use Encode qw(decode encode);
use JSON::PP ();

# Bytes that are no text: a claim.
sub bytes { bless \(my $copy = $_[0]), 'Tasker::Bytes' }

sub _sized {    # by how many: the short form and up to three longer ones
	my ($n, $fix, $max, @wider) = @_;
	return pack('C', $fix | $n) if defined $fix && $n < $max;
	for (['C', 0x100], ['n', 0x10000], ['N', 2**32]) {
		my $type = shift @wider;
		return pack("C$_->[0]", $type, $n) if defined $type && $n < $_->[1];
	}
	die "too long\n";
}

sub _number {
	my ($v, $flags) = @_;
	return pack('Cd>', 0xcb, $v) unless $flags & B::SVf_IOK && $v == int $v;
	return $v < 128 ? pack('C', $v) : pack('CQ>', 0xcf, $v) if $v >= 0;
	return $v >= -32 ? pack('c', $v) : pack('Cq>', 0xd3, $v);
}

# What was last used as a number is one, as in JSON::PP; JSON::PP::true and false are the booleans.
sub to_msgpack {
	my ($v) = @_;
	return "\xc0" unless defined $v;
	my $is = ref $v;
	return _sized(scalar keys %$v, 0x80, 16, undef, 0xde, 0xdf) . join('', map { to_msgpack("$_") . to_msgpack($v->{$_}) } keys %$v) if $is eq 'HASH';
	return _sized(scalar @$v, 0x90, 16, undef, 0xdc, 0xdd) . join('', map { to_msgpack($_) } @$v) if $is eq 'ARRAY';
	return _sized(length $$v, undef, 0, 0xc4, 0xc5, 0xc6) . $$v if $is eq 'Tasker::Bytes';
	return $v ? "\xc3" : "\xc2" if JSON::PP::is_bool($v);
	die "a value of $is cannot be sent\n" if $is;
	my $flags = B::svref_2object(\$v)->FLAGS;
	return _number($v, $flags) if $flags & (B::SVf_IOK | B::SVf_NOK) && !($flags & B::SVf_POK);
	my $text = encode('UTF-8', $v);
	return _sized(length $text, 0xa0, 32, 0xd9, 0xda, 0xdb) . $text;
}

my %fixed = (0xc0 => undef, 0xc2 => JSON::PP::false(), 0xc3 => JSON::PP::true());
my %number = (0xca => ['f>', 4], 0xcb => ['d>', 8], 0xcc => ['C', 1], 0xcd => ['n', 2], 0xce => ['N', 4], 0xcf => ['Q>', 8], 0xd0 => ['c', 1], 0xd1 => ['s>', 2], 0xd2 => ['l>', 4], 0xd3 => ['q>', 8]);
my %sized = (0xc4 => ['bin', 'C'], 0xc5 => ['bin', 'n'], 0xc6 => ['bin', 'N'], 0xd9 => ['str', 'C'], 0xda => ['str', 'n'], 0xdb => ['str', 'N'],
	0xdc => ['array', 'n'], 0xdd => ['array', 'N'], 0xde => ['map', 'n'], 0xdf => ['map', 'N']);
my %width = (C => 1, n => 2, N => 4);
my %body = (
	bin   => sub { bytes(_take($_[0], $_[1])) },
	str   => sub { decode('UTF-8', _take($_[0], $_[1]), Encode::FB_CROAK) },
	array => sub { my ($in, $n) = @_; [map { from_msgpack($in) } 1 .. $n] },
	map   => sub { my ($in, $n) = @_; my %h; for (1 .. $n) { my $k = from_msgpack($in); $h{$k} = from_msgpack($in) } \%h },
);

sub _take {
	my ($in, $n) = @_;
	die "a frame ends too early\n" if length $$in < $n;
	return substr $$in, 0, $n, '';
}

# The value at the beginning of $$in, which is taken away from it.
sub from_msgpack {
	my ($in) = @_;
	my $type = unpack 'C', _take($in, 1);
	return $type if $type < 0x80;
	return $type - 256 if $type >= 0xe0;
	return $body{map}->($in, $type & 15) if $type < 0x90;
	return $body{array}->($in, $type & 15) if $type < 0xa0;
	return $body{str}->($in, $type & 31) if $type < 0xc0;
	return $fixed{$type} if exists $fixed{$type};
	if (my $n = $number{$type}) { return unpack $n->[0], _take($in, $n->[1]) }
	my $s = $sized{$type} or die sprintf "a type that the protocol does not have: 0x%02x\n", $type;
	return $body{$s->[0]}->($in, unpack $s->[1], _take($in, $width{$s->[1]}));
}

sub frame { pack 'N/a*', to_msgpack($_[0]) }

# The next whole frame's value in a list, taken from the beginning of $$in; an empty list if there is none yet.
sub next_frame {
	my ($in) = @_;
	return if length $$in < 4 || length $$in < 4 + unpack 'N', $$in;
	my $payload = unpack 'N/a*', $$in;
	substr $$in, 0, 4 + length $payload, '';
	return from_msgpack(\$payload);
}

1;
