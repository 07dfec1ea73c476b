# Completion of bmpctl for fish. The words of a command come from bmpctl itself.

function __bmpctl_words
    set -l words (commandline -opc)[2..-1]
    bmpctl --complete (string join ' ' -- $words (commandline -ct)) 2>/dev/null
end

complete -c bmpctl -f
complete -c bmpctl -l control -r -F -d 'the control socket of the bmpd to speak to'
complete -c bmpctl -l json -d 'answer in JSON'
complete -c bmpctl -s f -l file -r -F -d 'carry out the commands of a file'
complete -c bmpctl -s c -l command -x -d 'carry out this command'
complete -c bmpctl -n 'not string match -q -- "-*" (commandline -ct)' -a '(__bmpctl_words)'
