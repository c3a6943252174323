#!/usr/bin/perl
# A message centre for tests, on the SMPP implementation Net::SMPP (Debian: libnet-smpp-perl).
#
# usage: message_centre.pl [option=value ...]
#   password=WORD     the password that binds (default: secret)
#   throttle=N        answers the first N messages with ESME_RTHROTTLED
#   refuse=NUMBER     answers messages to NUMBER with ESME_RINVDSTADR
#   drop=N            closes the connection instead of answering the Nth message
#   silent=N          does not answer the first N messages
#   dead=1            answers nothing any more once a message came
#   receipts=1        reports each message for which that was asked, as delivered
#   enquire=SECONDS   asks whether the other side is there after so many seconds of silence
#
# Listens on a free port of 127.0.0.1. Prints one JSON object a line: {"listening":PORT}, then what happens.
use strict;
use warnings;
use IO::Select;
use Net::SMPP;

$| = 1;
open STDERR, '>', '/dev/null';    # Net::SMPP warns of every connection that ends

my %option = (password => 'secret', throttle => 0, refuse => '', drop => 0, silent => 0, dead => 0, receipts => 0,
    enquire => 0, map { split /=/, $_, 2 } @ARGV);
my ($messages, $reports) = (0, 0);

sub say_json {
    my %said = @_;
    my @members = map { sprintf '"%s":%s', $_, $said{$_} =~ /^(?:0|[1-9]\d{0,8})$/ ? $said{$_} : "\"$said{$_}\"" }
        sort keys %said;
    print '{', join(',', @members), "}\n";
}

sub bind_request {
    my ($peer, $pdu) = @_;
    my $fits = $pdu->{password} eq $option{password};
    say_json(event => 'bind', version => sprintf('%02x', $pdu->{interface_version}),
        system_id => $pdu->{system_id}, system_type => $pdu->{system_type}, accepted => $fits ? 1 : 0);
    $peer->bind_transceiver_resp(seq => $pdu->{seq}, system_id => 'peer', status => $fits ? 0 : 0x0e);
}

sub submission {
    my ($peer, $pdu) = @_;
    $messages++;
    say_json(event => 'submit_sm', number => $messages, to => "n$pdu->{destination_addr}",
        ton => $pdu->{dest_addr_ton}, npi => $pdu->{dest_addr_npi}, from => "n$pdu->{source_addr}",
        from_ton => $pdu->{source_addr_ton}, from_npi => $pdu->{source_addr_npi}, esm_class => $pdu->{esm_class},
        coding => $pdu->{data_coding}, registered => $pdu->{registered_delivery},
        validity => "v$pdu->{validity_period}", text => 'x' . unpack('H*', $pdu->{short_message}),
        pdu => 'x' . unpack('H*', $pdu->{data}));
    return 0 if $messages == $option{drop};
    return 1 if $messages <= $option{silent} || $option{dead};
    my $status = $messages <= $option{throttle} ? 0x58 : $pdu->{destination_addr} eq $option{refuse} ? 0x0b : 0;
    $peer->submit_sm_resp(seq => $pdu->{seq}, status => $status, message_id => $status ? '' : "m$messages");
    report($peer, $pdu) if !$status && $option{receipts} && $pdu->{registered_delivery} & 1;
    return 1;
}

sub report {
    my ($peer, $pdu) = @_;
    $reports++;
    $peer->deliver_sm(async => 1, seq => 1000 + $reports, esm_class => 0x04,
        source_addr => $pdu->{destination_addr}, destination_addr => $pdu->{source_addr},
        short_message => "id:m$messages sub:001 dlvrd:001 submit date:2611221000 done date:2611221001 "
            . 'stat:DELIVRD err:000 text:Your code is');
}

# Answers one PDU; returns false when the connection is to end.
sub answer {
    my ($peer, $pdu) = @_;
    my $command = $pdu->{cmd};
    if ($command == Net::SMPP::CMD_bind_transceiver) { bind_request($peer, $pdu) }
    elsif ($command == Net::SMPP::CMD_submit_sm) { return submission($peer, $pdu) }
    elsif ($command == Net::SMPP::CMD_enquire_link) {
        say_json(event => 'enquire_link');
        $peer->enquire_link_resp(seq => $pdu->{seq}) unless $option{dead} && $messages;
    }
    elsif ($command == Net::SMPP::CMD_enquire_link_resp) { say_json(event => 'enquire_link_resp') }
    elsif ($command == Net::SMPP::CMD_deliver_sm_resp) {
        say_json(event => 'deliver_sm_resp', status => $pdu->{status}, seq => $pdu->{seq});
    }
    elsif ($command == Net::SMPP::CMD_unbind) {
        say_json(event => 'unbind');
        $peer->unbind_resp(seq => $pdu->{seq});
    }
    else { say_json(event => 'other', command => sprintf('%08x', $command), status => $pdu->{status}) }
    return 1;
}

my $listener = Net::SMPP->new_listen('127.0.0.1', port => 0) or die "listen: $!";
say_json(listening => $listener->sockport);
while (my $peer = $listener->accept) {
    say_json(event => 'connected');
    my $readable = IO::Select->new($peer);
    while (1) {
        if ($option{enquire} && !$readable->can_read($option{enquire})) {
            $peer->enquire_link(async => 1);
            next;
        }
        my $pdu = $peer->read_pdu or last;
        answer($peer, $pdu) or last;
    }
    $peer->close;
    say_json(event => 'closed');
}
