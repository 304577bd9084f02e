package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"cordon/test/stage"
)

// behaviour is how people's devices ask, in outline: a page is opened, which asks a
// few questions in a short time; then there is a pause. Some people open many pages,
// most few.
type behaviour struct {
	pause  time.Duration // between pages, on the average over all clients
	spread float64       // of the clients' own averages: sigma of a log-normal distribution
	burst  float64       // questions of a page, on the average
	within time.Duration // between the questions of a page, on the average
	idle   time.Duration // after which a client closes its connection
}

// usual is made after what is known of stubs: connections outlive a page and not a
// pause of half a minute, so that about half of the pages find theirs open.
var usual = behaviour{pause: 10 * time.Second, spread: 1, burst: 7, within: 20 * time.Millisecond, idle: 10 * time.Second}

// perClient is the average of questions a second.
func (b *behaviour) perClient() float64 {
	return b.burst / (b.pause.Seconds() + b.burst*b.within.Seconds())
}

// schedule is when one client asks what; the same in each run with the same seed.
type schedule struct {
	behaviour *behaviour
	random    *rand.Rand
	pause     float64       // this client's average, ns
	left      int           // questions of the page that is being opened
	next      time.Duration // since the begin
}

func newSchedule(b *behaviour, seed uint64, client int) schedule {
	s := schedule{behaviour: b, random: rand.New(rand.NewPCG(seed, uint64(client)))}
	// The mean of pages a second over all clients is 1/pause.
	busier := math.Exp(b.spread*s.random.NormFloat64() - b.spread*b.spread/2)
	s.pause = float64(b.pause) / busier
	s.page()
	return s
}

func (s *schedule) page() {
	s.next += time.Duration(s.pause * s.random.ExpFloat64())
	s.left = int(s.random.ExpFloat64() * (s.behaviour.burst - 0.5)) // and one that opens it: burst on the average
}

// advance goes to the next question.
func (s *schedule) advance() {
	if s.left == 0 {
		s.page()
		return
	}
	s.left--
	s.next += time.Duration(float64(s.behaviour.within) * s.random.ExpFloat64())
}

// pick chooses one of n.
func (s *schedule) pick(n int) int { return s.random.IntN(n) }

// listedShare of the questions is for names of the list, in percent.
const listedShare = 2

// questions are wire messages of ID 0, popular names more often (Zipf); padded is
// as over encrypted transports (RFC 8467 §4.1: blocks of 128 bytes).
func questions(l *stage.List, sites int, padded bool) ([][]byte, error) {
	random := rand.New(rand.NewPCG(5, 6))
	popular := rand.NewZipf(random, 1.1, 1, uint64(sites-1))
	made := map[string][]byte{} // many are the same: one copy of each
	all := make([][]byte, 1<<14)
	for i := range all {
		name, kind := "www."+stage.Site(int(popular.Uint64()))+".", [...]uint16{dns.TypeA, dns.TypeAAAA}[i%2]
		if random.IntN(100) < listedShare {
			name = "www." + l.Stable(random.IntN(l.Entries)) + "."
		}
		key := name + dns.TypeToString[kind]
		if made[key] == nil {
			wire, err := query(name, kind, padded)
			if err != nil {
				return nil, err
			}
			made[key] = wire
		}
		all[i] = made[key]
	}
	return all, nil
}

func query(name string, kind uint16, padded bool) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	m.Id = 0
	m.SetEdns0(1232, false)
	if padded {
		const block, option = 128, 4
		rest := (block - (m.Len()+option)%block) % block
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, rest)})
	}
	return m.Pack()
}

// framed puts the length before a message, as TCP and DoQ do (RFC 1035 §4.2.2).
func framed(b, message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(message))), message...)
}
