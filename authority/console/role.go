package console

// Role is what an operator may do.
type Role string

// The roles. Each may do what the one before may.
const (
	Read     Role = "read"     // sees everything but the other operators
	Helpdesk Role = "helpdesk" // helps people log in
	Admin    Role = "admin"    // and says who is an operator

	// public is no role: of pages that are there before the login.
	public Role = "public"
)

// Roles lists them, the least first.
var Roles = []Role{Read, Helpdesk, Admin}

var ranks = map[Role]int{Read: 1, Helpdesk: 2, Admin: 3}

// Known says whether it is one of the roles.
func (r Role) Known() bool { return ranks[r] > 0 }

// may says whether a role is at least another. What is no role may nothing, and
// nothing may be had for it.
func (r Role) may(least Role) bool { return r.Known() && least.Known() && ranks[r] >= ranks[least] }
