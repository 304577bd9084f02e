package cookie

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 9018, Appendix A.
func TestCookiesAreThoseOfTheRFC(t *testing.T) {
	for name, tt := range map[string]struct {
		secret, client, addr string
		at                   int64
		want                 string
	}{
		"A.1, a new one":                      {"e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1559731985, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		"A.4, over IPv6, with the old secret": {"dd3bdf9344b678b185a6f5cb60fca715", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741817, "22681ab97d52c298010000005cf7c57926556bd0934c72f8"},
		"A.4, over IPv6, with the new secret": {"445536bcd2513298075a5d379663c962", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
	} {
		secrets, err := ParseSecrets([]byte(tt.secret + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		at, addr := time.Unix(tt.at, 0), netip.MustParseAddr(tt.addr)
		got := secrets.Append(nil, unhex(t, tt.client), addr, at)
		if !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: %x, want %s", name, got, tt.want)
		}
		if state := secrets.Check(got, addr, at); state != Good {
			t.Errorf("%s: its own cookie is %d", name, state)
		}
	}
}

func TestACookieIsGoodForItsClientAndForAWhile(t *testing.T) {
	secrets := Secrets{{1}, {2}}
	now, addr := time.Unix(1_700_000_000, 0), netip.MustParseAddr("192.0.2.1")
	client := []byte("12345678")
	good := secrets.Append(nil, client, addr, now)
	edited := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	for name, tt := range map[string]struct {
		option []byte
		addr   string
		at     time.Duration
		want   State
	}{
		"its own":                          {good, "192.0.2.1", 0, Good},
		"its own, as a mapped address":     {good, "::ffff:192.0.2.1", 0, Good},
		"made with the other secret":       {secrets[1:].Append(nil, client, addr, now), "192.0.2.1", 0, Good},
		"an hour old":                      {good, "192.0.2.1", time.Hour, Good},
		"more than an hour old":            {good, "192.0.2.1", time.Hour + time.Second, New},
		"from five minutes ahead":          {good, "192.0.2.1", -5 * time.Minute, Good},
		"from further ahead":               {good, "192.0.2.1", -5*time.Minute - time.Second, New},
		"of another address":               {good, "192.0.2.2", 0, New},
		"with another client's part":       {edited(0), "192.0.2.1", 0, New},
		"with another version":             {edited(8), "192.0.2.1", 0, New},
		"with another time":                {edited(15), "192.0.2.1", 0, New},
		"with another hash":                {edited(23), "192.0.2.1", 0, New},
		"made with a secret of no one":     {Secrets{{3}}.Append(nil, client, addr, now), "192.0.2.1", 0, New},
		"of a client that has none":        {client, "192.0.2.1", 0, New},
		"of another server, of any length": {append(bytes.Clone(client), make([]byte, 32)...), "192.0.2.1", 0, New},
		"too short":                        {client[:7], "192.0.2.1", 0, Malformed},
		"cut":                              {good[:15], "192.0.2.1", 0, Malformed},
		"too long":                         {append(bytes.Clone(client), make([]byte, 33)...), "192.0.2.1", 0, Malformed},
		"empty":                            {nil, "192.0.2.1", 0, Malformed},
	} {
		if got := secrets.Check(tt.option, netip.MustParseAddr(tt.addr), now.Add(tt.at)); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestSecretsAreReadStrictly(t *testing.T) {
	const one = "e5e973e5a6b2a43f48e7dc849e37bfcf\n"
	for text, want := range map[string]int{one: 1, "# current\n" + one + "\n" + one: 2, "": 0, one + one + one + one: 0, one[:31] + "\n": 0, one[:32] + "00\n": 0, "zz" + one[2:]: 0} {
		got, err := ParseSecrets([]byte(text))
		if len(got) != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d secrets, %v", text, len(got), err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	secrets, addr, now := Secrets{{1}}, netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	f.Add([]byte("12345678"))
	f.Add(secrets.Append(nil, []byte("12345678"), addr, now))
	f.Fuzz(func(t *testing.T, option []byte) {
		if secrets.Check(option, addr, now) == Malformed {
			return
		}
		if made := secrets.Append(nil, option, addr, now); secrets.Check(made, addr, now) != Good {
			t.Fatalf("%x: the cookie %x is not good", option, made)
		}
	})
}

func TestCookiesDoNotAllocate(t *testing.T) {
	secrets, addr, now := Secrets{{1}}, netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	buf := make([]byte, 0, Len)
	if n := testing.AllocsPerRun(100, func() { secrets.Check(secrets.Append(buf, []byte("12345678"), addr, now), addr, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
