#!/usr/bin/env perl
# A worker of mpflow in Perl, from schemas/worker-protocol.md: `map` mode, the format `lines`, and the functions of
# the conformance check.
#
#     mpflow conformance --mode map -- perl worker.pl

use strict;
use warnings;
use IO::Select;
use JSON::PP;

my ($READY, $BROKEN) = (1, 2);
my ($DONE, $FAILED, $ABOUT) = (1, 3, 4);
my %functions = (
    echo    => sub { $_[0] },
    twice   => sub { ($_[0], $_[0]) },
    nothing => sub { () },
    fail    => sub { die "this function fails each record\n" },
    batch   => sub { $_[0] },
);

sub descriptor { my ($mode, $number) = @_; open my $file, "$mode&=", $number or die "$number: $!"; binmode $file; $file }

sub put {
    my ($file, $data) = @_;
    my $at = 0;
    while ($at < length $data) {
        $at += syswrite($file, $data, length($data) - $at, $at) // exit 1;
    }
}

# So many bytes, or undef at the end.
sub take {
    my ($file, $count) = @_;
    my $data = '';
    while (length $data < $count) {
        sysread($file, $data, $count - length $data, length $data) or return undef;
    }
    $data;
}

# Reopened, so that its offset is this worker's own.
open my $file, '<', "/proc/self/fd/$ENV{MPFLOW_TASK}" or die $!;
my $task = decode_json(do { local $/; <$file> });
my $control = descriptor('+<', $ENV{MPFLOW_CONTROL});

sub tell_engine { my ($kind, $value) = @_; my $text = encode_json($value); put($control, pack('VC', 1 + length $text, $kind) . $text) }

my ($name) = $task->{target} =~ /([^:]*)$/;
my $function = $functions{$name};
if (!$function || $task->{mode} ne 'map' || $task->{source} || $task->{inputs}[0]{format} ne 'lines') {
    tell_engine($BROKEN, { error => "there is no function `$name` for this task", traceback => undef, nearest => undef });
    exit 1;
}
my $input = descriptor('<', $task->{inputs}[0]{fd});
my $answers = descriptor('>', $task->{answers});

sub answer { my ($kind, $payload) = @_; put($answers, pack('VCx3', 4 + length $payload, $kind) . $payload) }

tell_engine($READY, { protocol => 1, language => 'perl', segments => JSON::PP::false });
defined take($control, 5) or exit 1;    # GO

my $waits = IO::Select->new($control, $input);
while (1) {
    my @ready = $waits->can_read;
    if (grep { $_ == $control } @ready) {
        # The engine is gone, or says something of segments, of which this worker has none.
        sysread($control, my $said, 65536) or exit 1;
    }
    next unless grep { $_ == $input } @ready;
    defined(my $head = take($input, 16)) or exit 0;
    my ($length, undef, $flags, $count, $attempt) = unpack 'VCCx2VV', $head;
    my @records = split /\n/, take($input, $length - 12), -1;
    pop @records;
    for my $group ($task->{batch} ? [@records] : map { [$_] } @records) {
        answer($ABOUT, JSON::PP->new->allow_nonref->encode($group->[0])) if $flags & 1;
        my @results = eval { map { $function->($_) } @$group };
        if ($@) {
            chomp(my $error = $@);
            answer($FAILED, encode_json({ error => $error, type => '', traceback => '' }));
            next;
        }
        my $data = join '', map { "$_\n" } @results;
        answer($DONE, pack('V', scalar @$group) . (@results ? pack('VVV', 0, scalar @results, length $data) . $data : ''));
    }
}
