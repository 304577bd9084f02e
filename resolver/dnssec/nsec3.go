package dnssec

import (
	"crypto/sha1" // #nosec G505 -- the only hash that RFC 5155 defines
	"encoding/base32"
	"encoding/hex"
	"strings"

	"github.com/miekg/dns"
)

// nsec3 is a verified NSEC3 record and its owner's hash; hashes are upper-case
// base32hex, which sorts as the bytes do (RFC 5155 §1.3).
type nsec3 struct {
	record *dns.NSEC3
	owner  string
}

func (n nsec3) optOut() bool { return n.record.Flags&1 != 0 }

// covers: hash lies between the record's owner and its next hash; the last one
// wraps round (RFC 5155 §3.1.7).
func (n nsec3) covers(hash string) bool {
	next := strings.ToUpper(n.record.NextDomain)
	if n.owner < next {
		return n.owner < hash && hash < next
	}
	return hash > n.owner || hash < next
}

// addNSEC3 keeps x if it is of the kind that RFC 5155 §8.1 and §8.2 let count.
func (d *Denial) addNSEC3(x *dns.NSEC3) {
	owner := dns.CanonicalName(x.Hdr.Name)
	labels := dns.Split(owner)
	if len(labels) != dns.CountLabel(d.zone)+1 || !below(d.zone, owner) {
		return
	}
	if x.Hash != dns.SHA1 || x.Flags > 1 || len(x.NextDomain) != 32 {
		return
	}
	first := owner
	if len(labels) > 1 {
		first = owner[:labels[1]]
	}
	first = strings.TrimSuffix(first, ".")
	if len(first) != 32 {
		return
	}
	if x.Iterations > MaxIterations {
		d.costly = true
		return
	}
	// One chain: the parameters of the first record are those of all (§8.2).
	if len(d.nsec3) > 0 {
		if f := d.nsec3[0].record; f.Iterations != x.Iterations || !strings.EqualFold(f.Salt, x.Salt) {
			return
		}
	}
	d.nsec3 = append(d.nsec3, nsec3{record: x, owner: strings.ToUpper(first)})
}

// hash is the hash of name with the chain's parameters; "" when there is no
// allowance for it, which neither matches nor is covered.
func (d *Denial) hash(name string) string {
	if h, ok := d.hashes[name]; ok {
		return h
	}
	p := d.nsec3[0].record
	if !d.v.Work.hash(p) {
		d.exhausted = true
		return ""
	}
	h := hashName(name, p.Iterations, p.Salt)
	d.hashes[name] = h
	return h
}

// hashName is RFC 5155 §5.
func hashName(name string, iterations uint16, salt string) string {
	wire, rawSalt := wireName(name), []byte(nil)
	if salt != "-" {
		var err error
		if rawSalt, err = hex.DecodeString(salt); err != nil {
			return ""
		}
	}
	if wire == nil {
		return ""
	}
	sum := sha1.Sum(append(wire, rawSalt...)) // #nosec G401 -- see above
	for range iterations {
		sum = sha1.Sum(append(sum[:], rawSalt...)) // #nosec G401 -- see above
	}
	return base32.HexEncoding.EncodeToString(sum[:])
}

func (d *Denial) nsec3At(name string) *nsec3 {
	if len(d.nsec3) == 0 {
		return nil
	}
	h := d.hash(name)
	for i := range d.nsec3 {
		if h != "" && d.nsec3[i].owner == h {
			return &d.nsec3[i]
		}
	}
	return nil
}

func (d *Denial) nsec3Covering(name string) *nsec3 {
	h := d.hash(name)
	for i := range d.nsec3 {
		if h != "" && d.nsec3[i].covers(h) {
			return &d.nsec3[i]
		}
	}
	return nil
}

// enclose is the closest encloser proof of RFC 5155 §8.3: the longest ancestor
// of name that is matched, and the record that covers the next closer name. Each
// name on the way is hashed once; Work bounds how many.
func (d *Denial) enclose(name string) (encloser string, nextCloser *nsec3, ok bool) {
	next := ""
	for n := name; below(d.zone, n); n = parent(n) {
		if m := d.nsec3At(n); m != nil {
			if next == "" || hidesBelow(m.record.TypeBitMap) {
				return "", nil, false // name itself exists, or what is below is not this zone's
			}
			c := d.nsec3Covering(next)
			return n, c, c != nil
		}
		if d.exhausted || n == d.zone {
			break
		}
		next = n
	}
	return "", nil, false
}

// parent is the name without its leftmost label.
func parent(name string) string { return lastLabels(name, dns.CountLabel(name)-1) }

func (d *Denial) nsec3NXDOMAIN(name string) (bool, Verdict) {
	encloser, next, ok := d.enclose(name)
	if !ok || d.nsec3Covering(wildcard(encloser)) == nil {
		return false, Verdict{}
	}
	return true, optOutVerdict(next)
}

func (d *Denial) nsec3NODATA(name string, t uint16) (bool, Verdict) {
	if n := d.nsec3At(name); n != nil {
		return deniesType(name, n.record.TypeBitMap, t), secure()
	}
	encloser, next, ok := d.enclose(name)
	if !ok {
		return false, Verdict{}
	}
	// A wildcard without the type (RFC 5155 §8.7).
	if w := d.nsec3At(wildcard(encloser)); w != nil {
		if !deniesType(wildcard(encloser), w.record.TypeBitMap, t) {
			return false, Verdict{}
		}
		return true, optOutVerdict(next)
	}
	// Within an opt-out span there may be an unsigned delegation, or an empty
	// non-terminal that leads to one (RFC 5155 §8.6, erratum 3441).
	if next.optOut() {
		return true, optOutVerdict(next)
	}
	return false, Verdict{}
}

func (d *Denial) nsec3NoCloser(name, encloser string) (bool, Verdict) {
	if !strictlyBelow(encloser, name) {
		return false, Verdict{}
	}
	next := d.nsec3Covering(lastLabels(name, dns.CountLabel(encloser)+1))
	if next == nil {
		return false, Verdict{}
	}
	return true, optOutVerdict(next)
}

// optOutVerdict: within an opt-out span an unsigned name may exist all the same
// (RFC 5155 §9.2, §12.2).
func optOutVerdict(next *nsec3) Verdict {
	if next.optOut() {
		return Verdict{Status: Insecure}
	}
	return secure()
}
