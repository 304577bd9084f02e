package lab

import (
	"embed"
	"net/netip"
)

//go:embed sample/*.zone
var sampleFiles embed.FS

// Sample is the internet of the demo and of the end-to-end tests. Each zone's
// file says what it is for.
func Sample() []Zone {
	var (
		root  = []netip.Addr{netip.MustParseAddr("127.0.53.1")}
		tops  = []netip.Addr{netip.MustParseAddr("127.0.53.2")}
		sites = []netip.Addr{netip.MustParseAddr("127.0.53.3"), netip.MustParseAddr("127.0.53.4")}
	)
	return []Zone{
		sample(".", root, NSEC, NoFault),
		sample("example.", tops, NSEC, NoFault),
		sample("ouvert.", tops, NSEC3OptOut, NoFault),
		sample("hebergeur.example.", sites, NSEC, NoFault),
		sample("libre.example.", sites, NSEC, NoFault),
		sample("propagande.example.", sites, NSEC3, NoFault),
		sample("images.example.", sites, NSEC, NoFault),
		sample("ancien.example.", sites, Unsigned, NoFault),
		sample("casse.example.", sites, NSEC, BrokenData),
		sample("perime.example.", sites, NSEC3, ExpiredData),
		sample("cledifferente.example.", sites, NSEC, WrongDS),
		sample("signe.ouvert.", sites, NSEC3, NoFault),
		sample("nonsigne.ouvert.", sites, Unsigned, NoFault),
		sample("loin.entre.ouvert.", sites, Unsigned, NoFault),
	}
}

func sample(name string, servers []netip.Addr, d Denial, f Fault) Zone {
	file := "sample/" + name + "zone"
	if name == "." {
		file = "sample/root.zone"
	}
	records, err := sampleFiles.ReadFile(file)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return Zone{Name: name, Servers: servers, Denial: d, Fault: f, Records: string(records)}
}
