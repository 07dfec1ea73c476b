#compdef bmpctl
# Completion of bmpctl for zsh. The words of a command come from bmpctl itself.

_bmpctl_words() {
    local -a found
    found=(${(f)"$(bmpctl --complete "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    compadd -a found
}

_arguments -S \
    '--control[the control socket of the bmpd to speak to]:socket:_files' \
    '--json[answer in JSON]' \
    '(-f --file)'{-f,--file}'[carry out the commands of a file]:file:_files' \
    '*'{-c,--command}'[carry out this command]:command:' \
    '(- *)'{-h,--help}'[print help]' \
    '(- *)'{-V,--version}'[print the version]' \
    '*::command:_bmpctl_words'
