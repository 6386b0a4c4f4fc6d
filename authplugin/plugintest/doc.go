// Package plugintest logs in through the authorization plug-in for macOS, on Linux:
// the core of the plug-in as a shared object, a stand-in for authd that runs it
// (authplugin/host), a view that plays a script, and the shipped agent behind it, or
// one that misbehaves. Every login runs with the plug-in as it is and with one built
// with ASan and UBSan. TestScreen... log in through the view that macOS gets, under
// GNUstep on an X server of their own, with real keys; they take the pictures of docs/img
// (-args -pictures DIR). It has tests only. What they show is shown of the stand-in: no
// Mac was seen.
package plugintest
